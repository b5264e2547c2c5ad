"""The promises of the contract on a swarm that its backends do not share: how bots run, crash, and fail to start.

What a swarm keeps differently is declared in dev/swarm/differences.toml.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.backends.swarm.service_spec import RESTART_DELAY_SECONDS
from container_manager_client import error_info
from dev.swarm import SwarmBed
from tests.support.calls import FOREVER, Calls
from tests.support.restart_contract import AnotherService, RestartContract
from tests.support.start_failure_contract import StartFailureContract
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.waiting import wait_until

CRASH = ("sh", "-c", "sleep 0.2; exit 3")
CLEAN = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
EATS_MEMORY = ("sh", "-c", "x=a; while :; do x=$x$x; done")


@dataclass(frozen=True)
class Shared:
    """Bots that several tests use."""

    made: SwarmBots
    failed: dict[str, tuple[str, str]]
    """Bots that cannot start: with the program, and the reason that the start had."""
    failed_at: float
    started: Path
    """Has the id of each bot that a node's engine starts, once for each start."""


@contextmanager
def starts_written(bed: SwarmBed, to: Path) -> Iterator[None]:
    """Write down what the nodes' own engines start."""
    bot_id = '{{index .Actor.Attributes "botmaker.bot-id"}}'
    command = ("events", "--since", str(int(time.time())), "--filter", "event=start", "--format", bot_id)
    with ExitStack() as stack, to.open("ab") as output:
        for node in bed.nodes:
            process = subprocess.Popen(["docker", "--host", node.docker_url, *command], stdout=output)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.fixture(scope="module")
def shared(session_bed: SwarmBed, calls: Calls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The bots; those that cannot start come first, so that their end is seen in time on a busy machine."""
    started = tmp_path_factory.mktemp("started") / "bots"
    with starts_written(session_bed, started):
        yield from shared_bots(session_bed, calls, started)


def shared_bots(session_bed: SwarmBed, calls: Calls, started: Path) -> Iterator[Shared]:
    made = SwarmBots(session_bed.nodes[0].docker_url)

    def run(program: tuple[str, ...]) -> tuple[str, str]:
        bot_id = made.new()
        try:
            calls.run(bot_id, *program)
        except grpc.RpcError as exc:
            return bot_id, error_info(exc).reason
        return bot_id, ""

    with ThreadPoolExecutor(2) as pool:
        bad = [("no-such-program",), ("/etc/passwd",)]
        failed = {
            bot_id: (program, reason) for (program,), (bot_id, reason) in zip(bad, pool.map(run, bad), strict=True)
        }
        failed_at = time.monotonic()
    yield Shared(made, failed, failed_at, started)
    made.remove_all()
    made.close()


def test_conformance_06_a_clean_exit_is_completed_and_out_of_memory_shows_as_killed(
    bed: SwarmBed, bots: SwarmBots, managers_only: Calls
) -> None:
    calls, clean, hungry = managers_only, bots.new(), bots.new()
    calls.run(hungry, *EATS_MEMORY, resources=pb.ResourceLimits(memory_bytes=16 * 1024 * 1024))
    calls.run(clean, *CLEAN)
    # The kernel drops a signal to a process that has no handler yet.
    container_of(bed, bots, clean).wait_for_log("ready")
    calls.stop(clean)
    status = calls.status(clean)
    assert status is not None
    assert (0, pb.EXIT_REASON_COMPLETED) == (status.exit_code, status.exit_reason)

    def ended() -> pb.ContainerStatus | None:
        found = calls.status(hungry)
        return found if found is not None and found.HasField("exit_code") else None

    status = wait_until(ended, "memory runs out")
    assert (pb.CONTAINER_STATE_RESTARTING, 137, pb.EXIT_REASON_KILLED) == (
        status.state,
        status.exit_code,
        status.exit_reason,
    )


def test_conformance_08_a_crashed_process_is_restarted_and_counted_and_a_stop_in_the_loop_lasts(
    bots: SwarmBots, calls: Calls
) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *CRASH)

    def waits(after_ns: int = 0) -> pb.ContainerStatus | None:
        status = calls.status(bot_id)
        found = status is not None and status.state == pb.CONTAINER_STATE_RESTARTING
        return status if found and status.finish_time.ToNanoseconds() > after_ns else None

    first = wait_until(waits, "the wait after the first run")
    # Counted as soon as it starts, but a stop that comes then ends it.
    status = wait_until(lambda: waits(first.finish_time.ToNanoseconds()), "the wait after a second run")
    assert (1, 3, pb.EXIT_REASON_ERROR) == (status.restart_count, status.exit_code, status.exit_reason)
    calls.stop(bot_id)
    stopped_at = time.monotonic()
    known = {task["ID"] for task in tasks_of(bots, bot_id)}
    wait_until(lambda: time.monotonic() > stopped_at + RESTART_DELAY_SECONDS + 1, "the next run would have begun")
    assert {task["ID"] for task in tasks_of(bots, bot_id)} <= known
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert (pb.CONTAINER_STATE_EXITED, 3, pb.EXIT_REASON_ERROR) == (
        stopped.state,
        stopped.exit_code,
        stopped.exit_reason,
    )


def test_conformance_08_a_bot_that_becomes_unhealthy_is_restarted(calls: Calls, bots: SwarmBots) -> None:
    check = pb.HealthCheck(command=["test", "-e", "/tmp/well"], interval={"seconds": 1}, retries=1)
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "touch /tmp/well; sleep 3; rm /tmp/well; exec sleep 1000", health_check=check)

    def health() -> int:
        status = calls.status(bot_id)
        assert status is not None
        return status.health

    wait_until(lambda: pb.HEALTH_STATUS_HEALTHY == health(), "it is healthy")
    wait_until(lambda: count(calls, bot_id) > 0, "it is restarted")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["the manager's engine restarts", "its own node loses power"])
def test_conformance_08_a_stop_outlives_engines_also_amid_a_crash_loop(
    bed: SwarmBed, bots: SwarmBots, calls: Calls, which: str
) -> None:
    bots.drain(bed.nodes[0].name)
    stopped, looping, loop_stopped, running = (bots.new() for _ in range(4))
    for bot_id, command in ((stopped, FOREVER), (looping, CRASH), (loop_stopped, CRASH), (running, FOREVER)):
        calls.run(bot_id, *command)
    nodes = {status.bot_id: status.node for status in calls.listed(bots.ids)}
    restarting = partial(in_state, calls, loop_stopped, pb.CONTAINER_STATE_RESTARTING)
    wait_until(restarting, "amid the crash loop")
    calls.stop(loop_stopped)
    calls.stop(stopped)
    if which == "the manager's engine restarts":
        bed.nodes[0].kill_engine()
        bed.nodes[0].start_engine()
    else:
        for name in {nodes[stopped], nodes[loop_stopped]}:
            next(node for node in bed.nodes if node.name == name).power_cut()
    bed.restore()
    before = count(calls, looping)
    wait_until(lambda: in_state(calls, running, pb.CONTAINER_STATE_RUNNING), "what ran runs again", 120)
    wait_until(lambda: count(calls, looping) > before, "what looped loops", 120)
    assert in_state(calls, stopped, pb.CONTAINER_STATE_EXITED)
    assert in_state(calls, loop_stopped, pb.CONTAINER_STATE_EXITED)


def test_conformance_09_a_bad_command_has_its_reason_is_started_once_and_shows_in_the_status(
    shared: Shared, calls: Calls
) -> None:
    # Without the service, the swarm would have tried again by now.
    wait_until(lambda: time.monotonic() > shared.failed_at + RESTART_DELAY_SECONDS + 1, "the restart delay is over")
    reasons = dict(shared.failed.values())
    assert {"no-such-program": "COMMAND_NOT_FOUND", "/etc/passwd": "COMMAND_NOT_EXECUTABLE"} == reasons
    for bot_id, (program, _) in shared.failed.items():
        status = calls.status(bot_id)
        assert status is not None
        assert (pb.CONTAINER_STATE_EXITED, pb.EXIT_REASON_START_FAILED) == (status.state, status.exit_reason)
        assert program in status.error
        assert not status.HasField("exit_code")
        assert [] == [task for task in tasks_of(shared.made, bot_id) if task["DesiredState"] in ("ready", "running")]
    runs = {service["Spec"]["Labels"]["botmaker.bot-id"]: service for service in shared.made.services()}
    assert [0, 0] == [runs[bot_id]["Spec"]["Mode"]["Replicated"].get("Replicas", 0) for bot_id in shared.failed]
    started = shared.started.read_text().split()
    assert [1, 1] == [started.count(bot_id) for bot_id in shared.failed]


class TestStartFailure(StartFailureContract):
    """With the fixtures of this directory."""

    state = pb.CONTAINER_STATE_EXITED


class TestRestart(RestartContract):
    """With the fixtures of this directory."""


def test_conformance_15_another_service_lists_the_same_bots_that_could_not_start(
    shared: Shared, another_service: AnotherService, calls: Calls
) -> None:
    with another_service() as others:
        after = others.listed(list(shared.failed))
    assert 2 == len(after)
    assert after == calls.listed(list(shared.failed))


def tasks_of(made: SwarmBots, bot_id: str) -> list[dict[str, object]]:
    return [each for each in made.tasks() if each["Spec"]["ContainerSpec"]["Labels"]["botmaker.bot-id"] == bot_id]


def in_state(calls: Calls, bot_id: str, state: int) -> bool:
    status = calls.status(bot_id)
    return status is not None and status.state == state


def count(calls: Calls, bot_id: str) -> int:
    status = calls.status(bot_id)
    assert status is not None
    return status.restart_count
