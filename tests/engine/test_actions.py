"""Programs inside a bot's container, on a real engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from container_manager.actions import bounded
from container_manager.backend_provisioning import ActionResult
from container_manager.backends.engine_actions import EngineActions
from container_manager.config import BackendConfig
from container_manager.errors import EngineTimeoutError, EngineUnavailableError, InvalidStateError
from container_manager.model import LogSource
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.start_failure_contract import BuildImage

SECRET = b"a-secret-on-standard-input"


@pytest.fixture
def actions(service_config: BackendConfig) -> Iterator[EngineActions]:
    actions = EngineActions(service_config.docker_host, timeout_seconds=service_config.engine_timeout_seconds)
    yield actions
    actions.close()


@pytest.fixture
def container_id(calls: Calls, bots: Bots) -> str:
    return calls.run(bots.new(), *FOREVER)


def run(actions: EngineActions, container_id: str, *command: str, stdin: bytes = b"") -> ActionResult:
    return actions.run(container_id, command, stdin=stdin, seconds=60)


def test_exit_code_and_both_outputs_are_the_programs_own(actions: EngineActions, container_id: str) -> None:
    result = run(actions, container_id, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (3, b"out\n", b"err\n") == result
    assert (0, b"", b"") == run(actions, container_id, "true")
    assert (0, b"a b\n", b"") == run(actions, container_id, "echo", "a b"), "there is no shell"


def test_a_program_runs_as_the_containers_user(
    actions: EngineActions, calls: Calls, bots: Bots, build_image: BuildImage
) -> None:
    container_id = calls.run(bots.new(), *FOREVER, image=build_image("USER 1000:1000"))
    assert (0, b"1000 1000\n", b"") == run(actions, container_id, "sh", "-c", "echo $(id -u) $(id -g)")
    calls.remove(bots.ids[0], grace=0)


def test_standard_input_reaches_the_program_and_its_end_too(actions: EngineActions, container_id: str) -> None:
    large = bytes(range(256)) * 200
    assert (0, large, b"") == run(actions, container_id, "cat", stdin=large)
    assert (0, b"", b"") == run(actions, container_id, "cat")


def test_standard_input_is_in_nothing_that_the_engine_shows(
    actions: EngineActions, container_id: str, bots: Bots
) -> None:
    script = "read -r line; cat /proc/self/cmdline /proc/self/environ; echo; echo ${#line}"
    result = run(actions, container_id, "sh", "-c", script, stdin=SECRET)
    assert result.stdout.endswith(b"\n%d\n" % len(SECRET))
    assert SECRET not in result.stdout
    document = bots.engine.api.inspect_container(container_id)
    shown = [json.dumps(bots.engine.api.exec_inspect(each)) for each in document["ExecIDs"] or []]
    assert SECRET.decode() not in json.dumps(document) + "".join(shown)


def test_too_much_output_is_cut_and_does_not_hold_up_the_program(actions: EngineActions, container_id: str) -> None:
    result = run(actions, container_id, "sh", "-c", "head -c 3000000 /dev/zero; echo end >&2")
    assert (0, 64 * 1024, b"end\n") == (result.exit_code, len(result.stdout), result.stderr)


def test_output_comes_as_the_program_writes_it(actions: EngineActions, container_id: str) -> None:
    came: list[tuple[LogSource, bytes, float]] = []
    script = "echo one; sleep 1; echo two >&2"
    result = actions.run(
        container_id,
        ("sh", "-c", script),
        seconds=60,
        on_output=lambda source, data: came.append((source, data, time.monotonic())),
    )
    assert (0, b"one\n", b"two\n") == result
    (first, second) = came
    assert (LogSource.STDOUT, b"one\n", LogSource.STDERR, b"two\n") == (*first[:2], *second[:2])
    assert second[2] - first[2] > 0.5


def test_a_bounded_program_is_ended_in_the_container(actions: EngineActions, container_id: str) -> None:
    """As by the image's own ``timeout``: 143 in busybox, 124 in coreutils."""
    began = time.monotonic()
    assert run(actions, container_id, *bounded(("sleep", "1000"), 1)).exit_code in (124, 143)
    assert time.monotonic() - began < 30
    running = run(actions, container_id, "ps", "-o", "args").stdout.splitlines()
    assert b"sleep 100000" in running
    assert b"sleep 1000" not in running


def test_a_program_that_is_not_there_ends_as_in_a_shell(actions: EngineActions, container_id: str) -> None:
    result = run(actions, container_id, "no-such-program")
    assert result.exit_code in (126, 127)
    assert b"no-such-program" in result.stdout + result.stderr


def test_a_program_that_does_not_end_is_given_up_in_time(actions: EngineActions, container_id: str) -> None:
    with pytest.raises(EngineTimeoutError):
        actions.run(container_id, ("sleep", "30"), stdin=b"", seconds=0.5)


def test_a_container_that_does_not_run_is_an_invalid_state(actions: EngineActions, calls: Calls, bots: Bots) -> None:
    with pytest.raises(InvalidStateError, match="not running"):
        run(actions, calls.create(bots.new(), *FOREVER), "true")


def test_an_engine_that_is_gone_is_unavailable(service_config: BackendConfig) -> None:
    actions = EngineActions("unix:///nowhere.sock", timeout_seconds=5)
    with pytest.raises(EngineUnavailableError):
        run(actions, "x", "true")
    actions.close()
