"""RunAction: what is run, what comes back and when, and what is refused."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.actions import Action, Argument
from container_manager.backend_provisioning import ActionResult, OnOutput
from container_manager.maintenance import action_runner
from container_manager.model import ContainerState, LogSource
from container_manager.rpc import taking
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.rpc.conftest import ServeLooped, ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.provisioning_calls import put_secrets
from tests.support.silent_reader import silent_reader
from tests.support.waiting import wait_until

SECRET = "ABCD2345"


@pytest.fixture
def bot_id(bots: MemoryBots, memory: MemoryBackend) -> str:
    """A running bot of the bot image."""
    bot_id = bots.new()
    memory.add(bot_id, action_set="openclaw")
    return bot_id


def act(maintainer: ContainerMaintainerStub, bot_id: str, action: str, *arguments: str, timeout: float = 60) -> Any:
    return maintainer.RunAction(pb.RunActionRequest(bot_id=bot_id, action=action, arguments=arguments), timeout=timeout)


def outcome(stream: Any) -> tuple[bytes, bytes, pb.ActionEnd]:
    events = list(stream)
    assert "end" == events[-1].WhichOneof("event")
    assert all(event.WhichOneof("event") in ("stdout", "stderr") for event in events[:-1])
    return b"".join(event.stdout for event in events), b"".join(event.stderr for event in events), events[-1].end


def test_an_action_runs_under_a_time_out_and_its_output_comes_before_its_exit_code(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str
) -> None:
    memory.actions.result = ActionResult(3, b"out\n", b"err\n")
    stdout, stderr, end = outcome(act(maintainer, bot_id, "pairing-approve", SECRET))
    assert (b"out\n", b"err\n", 3, False, 0) == (stdout, stderr, end.exit_code, end.timed_out, end.omitted_bytes)
    ((container_id, command, stdin),) = memory.actions.runs
    assert memory.containers[container_id].status.bot_id == bot_id
    assert ("timeout", "-k", "5", "60", "node") == command[:5]
    assert ("/opt/entrypoint/pairing.mjs", "approve", SECRET) == command[-3:]
    assert b"" == stdin


@pytest.mark.parametrize(
    ("exit_code", "limit", "timed_out"),
    [(124, 0.01, True), (137, 0.01, True), (143, 0.01, True), (124, 60, False), (1, 0.01, False), (0, 0.01, False)],
)
def test_an_action_that_timeout_has_ended_has_timed_out(  # noqa: PLR0917 - fixtures and parameters
    maintainer: ContainerMaintainerStub,
    memory: MemoryBackend,
    bot_id: str,
    monkeypatch: pytest.MonkeyPatch,
    exit_code: int,
    limit: float,
    timed_out: bool,
) -> None:
    """Any program may end with these codes of its own accord, but not after all of the time."""
    monkeypatch.setattr(action_runner, "SECONDS", limit)

    def program(_on_output: OnOutput) -> int:
        time.sleep(0.05)
        return exit_code

    memory.actions.program = program
    _, _, end = outcome(act(maintainer, bot_id, "doctor"))
    assert (exit_code, timed_out) == (end.exit_code, end.timed_out)


@pytest.mark.parametrize("notices_fail", [False, True], ids=["from the view", "from the backend"])
def test_nothing_runs_in_a_container_of_another_name(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bots: MemoryBots, notices_fail: bool
) -> None:
    memory.notices_fail = notices_fail
    bot_id = bots.new()
    container_id = memory.add(bot_id, name="botmaker-anna")
    with fails_with("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH") as caught:
        outcome(act(maintainer, bot_id, "doctor"))
    assert (container_id, "botmaker-anna") == (caught[0].metadata["container_id"], caught[0].metadata["name"])
    assert [] == memory.actions.runs


def test_output_comes_as_the_program_writes_it(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str
) -> None:
    go_on = threading.Event()

    def program(on_output: OnOutput) -> int:
        on_output(LogSource.STDOUT, b"one")
        assert go_on.wait(60)
        on_output(LogSource.STDERR, b"two")
        return 0

    memory.actions.program = program
    stream = act(maintainer, bot_id, "doctor")
    assert b"one" == next(stream).stdout
    go_on.set()
    assert b"two" == next(stream).stderr
    assert 0 == next(stream).end.exit_code


def test_of_much_output_the_first_mebibyte_comes_and_the_rest_is_counted(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str
) -> None:
    def program(on_output: OnOutput) -> int:
        for _ in range(40):
            on_output(LogSource.STDOUT, b"x" * 32_768)
        on_output(LogSource.STDERR, b"the end")
        return 0

    memory.actions.program = program
    stdout, stderr, end = outcome(act(maintainer, bot_id, "doctor"))
    assert (1024 * 1024, b"", 8 * 32_768 + 7) == (len(stdout), stderr, end.omitted_bytes)


@pytest.mark.usefixtures("early_answers")
def test_a_bot_runs_one_action_at_a_time_and_others_wait_until_their_deadline(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bots: MemoryBots, bot_id: str
) -> None:
    other = bots.new()
    memory.add(other, action_set="openclaw")
    with memory.held("run_action", bot_id):
        first, second = act(maintainer, bot_id, "doctor"), act(maintainer, bot_id, "pairing-list")
        memory.await_calls("run_action", 1)
        assert 0 == outcome(act(maintainer, other, "doctor"))[2].exit_code
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            list(act(maintainer, bot_id, "doctor", timeout=4))
    outcome(first)
    outcome(second)
    names = [memory.containers[container].status.bot_id for container, _, _ in memory.actions.runs]
    assert [bot_id, bot_id] == [name for name in names if name != other]


@pytest.mark.parametrize("action", ["doctor", "secrets-reload"])
def test_calls_for_a_bot_that_hangs_leave_places_to_other_bots(  # noqa: PLR0917 - fixtures
    serve_on: ServeOn, memory: MemoryBackend, bots: MemoryBots, bot_id: str, unix: str, action: str
) -> None:
    other = bots.new()
    memory.add(other, action_set="openclaw")
    with serve_on(unix, workers=8) as (address,), connect(address) as channel, memory.held("run_action", bot_id):
        maintainer = ContainerMaintainerStub(channel)
        calls = [act(maintainer, bot_id, action) for _ in range(8)]
        wait_until(lambda: sum(call.done() for call in calls) == 4, "all but four are refused")
        for refused in [call for call in calls if call.done()]:
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                next(refused)
        assert 0 == outcome(act(maintainer, other, action))[2].exit_code


@pytest.mark.usefixtures("early_answers")
def test_an_action_goes_on_when_its_caller_goes_away_and_keeps_its_turn(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str
) -> None:
    with memory.held("run_action", bot_id):
        first = act(maintainer, bot_id, "doctor")
        memory.await_calls("run_action", 1)
        first.cancel()
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            list(act(maintainer, bot_id, "doctor", timeout=4))
    assert 0 == outcome(act(maintainer, bot_id, "doctor"))[2].exit_code
    assert 2 == len(memory.actions.runs)


def test_readers_that_take_no_output_hold_up_actions_and_a_shutdown_for_a_moment_after_the_program(
    serve_looped: ServeLooped, unix: str, memory: MemoryBackend, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "TAKE_SECONDS", 1.0)
    memory.actions.result = ActionResult(0, b"x" * 500_000, b"")
    requests = []
    for _ in range(3):
        bot_id = bots.new()
        memory.add(bot_id, action_set="openclaw")
        requests.append(pb.RunActionRequest(bot_id=bot_id, action="doctor"))
    path = b"/botmaker.container.v1.ContainerMaintainer/RunAction"
    silent = [Call(path, request.SerializeToString()) for request in requests[:2]]
    with serve_looped(unix, workers=2) as looped, silent_reader(unix, silent), connect(unix) as channel:
        streams = looped.server.streams
        wait_until(lambda: len(memory.actions.runs) == 2, "their programs run")
        wait_until(lambda: streams.under_way == 0, "their places are free", 10)
        assert 500_000 == len(outcome(ContainerMaintainerStub(channel).RunAction(requests[2], timeout=60))[0])


def test_a_reader_that_is_slow_while_its_program_runs_is_not_ended(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "TAKE_SECONDS", 2.0)

    def program(on_output: OnOutput) -> int:
        on_output(LogSource.STDOUT, b"one")
        time.sleep(3)
        return 0

    memory.actions.program = program
    stdout, _, end = outcome(act(maintainer, bot_id, "doctor"))
    assert (b"one", 0) == (stdout, end.exit_code)


def test_a_bot_is_stopped_while_an_action_runs(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    with memory.held("run_action", bot_id):
        stream = act(maintainer, bot_id, "doctor")
        memory.await_calls("run_action", 1)
        calls.stop(bot_id)
    outcome(stream)


@pytest.mark.usefixtures("early_answers")
def test_a_reload_of_secrets_gets_the_token_that_the_bot_has_loaded_and_takes_the_bots_turn(
    grpc_channel: Any, maintainer: ContainerMaintainerStub, memory: MemoryBackend, calls: Calls, bot_id: str
) -> None:
    provisioner = BotProvisionerStub(grpc_channel)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"first")
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"second")
    with memory.held("run_action", bot_id):
        stream = act(maintainer, bot_id, "secrets-reload")
        memory.await_calls("run_action", 1)
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            calls.stop(bot_id, timeout=4)
    outcome(stream)
    provisioner.ReloadSecrets(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id))
    assert [b"first", b""] == [stdin for _, _, stdin in memory.actions.runs]


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("no-such-action", ()),
        ("", ()),
        ("ready;reboot", ()),
        ("doctor", ("--fix",)),
        ("secrets-reload", ("now",)),
        ("pairing-approve", ()),
        ("pairing-approve", ("--notify",)),
        ("pairing-approve", (SECRET, SECRET)),
    ],
)
def test_what_is_not_declared_is_refused_and_not_run(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str, action: str, arguments: tuple[str, ...]
) -> None:
    with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"):
        list(act(maintainer, bot_id, action, *arguments))
    assert [] == memory.actions.runs


@pytest.mark.parametrize(("action", "value"), [("doctor", "--fix"), ("pairing-approve", "no code")])
def test_a_wrong_argument_is_refused_at_once_while_another_action_of_the_bot_runs(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str, action: str, value: str
) -> None:
    with memory.held("run_action", bot_id):
        stream = act(maintainer, bot_id, "doctor")
        memory.await_calls("run_action", 1)
        with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"):
            list(act(maintainer, bot_id, action, value))
    outcome(stream)


def test_very_many_arguments_are_refused_before_anything_is_asked(
    maintainer: ContainerMaintainerStub, bots: MemoryBots
) -> None:
    """Each takes 16 bytes and more, also an empty one."""
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        outcome(act(maintainer, bots.new(), "doctor", *[""] * 100_000))
    assert "arguments" in caught[0].message


def test_an_image_without_the_label_has_no_built_in_action(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id)
    with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED"):
        list(act(maintainer, bot_id, "doctor"))
    assert [] == memory.actions.runs


@pytest.mark.parametrize(
    ("bot", "code", "reason"),
    [
        ("no bot", "INVALID_ARGUMENT", "INVALID_BOT_ID"),
        ("", "INVALID_ARGUMENT", "INVALID_BOT_ID"),
        ("00000000-0000-4000-8000-000000000001", "NOT_FOUND", "CONTAINER_NOT_FOUND"),
    ],
)
def test_a_bot_that_is_not_there_is_refused(
    maintainer: ContainerMaintainerStub, bot: str, code: str, reason: str
) -> None:
    with fails_with(code, reason):
        list(act(maintainer, bot, "doctor"))


def test_a_bot_that_does_not_run_is_an_invalid_state(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id, ContainerState.EXITED, action_set="openclaw")
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
        list(act(maintainer, bot_id, "doctor"))
    assert [] == memory.actions.runs


def test_an_action_is_in_the_log_with_its_end_and_without_its_arguments(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory.actions.result = ActionResult(1, b"unknown code", b"")
    with caplog.at_level(logging.DEBUG):
        outcome(act(maintainer, bot_id, "pairing-approve", SECRET))

        def lines() -> list[Any]:
            return [each for each in caplog.records if "an action has ended" in str(each.msg)]

        wait_until(lambda: bool(lines()), "it is logged")
    ((shown,),) = [[str(line.msg) for line in lines()]]
    for part in (bot_id, "pairing-approve", "exit_code"):
        assert part in shown
    assert SECRET not in caplog.text
    assert SECRET not in str([record.__dict__ for record in caplog.records])


# `re` takes many seconds for a value of 40 characters, and half as long again for each further one.
SLOW = Action("slow", ("echo", "{a}"), (Argument("a", "(a|aa)+$b"),))


def test_a_value_that_takes_long_to_match_is_refused_and_others_are_answered_meanwhile(
    serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id)
    with serve_on(unix, actions=(SLOW,)) as (target,), connect(target) as channel:
        observer = ContainerObserverStub(channel)
        refused = act(ContainerMaintainerStub(channel), bot_id, "slow", "a" * 40)
        answered = 0
        while not refused.done():
            observer.GetServerInfo(observer_pb.GetServerInfoRequest(), timeout=60)
            answered += 1
        with fails_with("PERMISSION_DENIED", "ACTION_NOT_ALLOWED") as caught:
            list(refused)
    assert "its argument a takes too long to match (a|aa)+$b" in caught[0].message
    assert answered >= 10
    assert [] == memory.actions.runs


OWN = (
    Action("ready", ("is-ready",), images=("official:*",)),
    Action("greet", ("greet", "{who}"), (Argument("who", "[a-z]+"),)),
)


@pytest.fixture
def own(serve_on: ServeOn, unix: str) -> Iterator[grpc.Channel]:
    """A channel to a server with actions of its operator."""
    with serve_on(unix, actions=OWN) as (target,), connect(target) as channel:
        yield channel


def test_an_operators_action_runs_and_server_info_declares_all(
    own: grpc.Channel, memory: MemoryBackend, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    memory.add(bot_id)
    outcome(act(ContainerMaintainerStub(own), bot_id, "greet", "you"))
    assert ("timeout", "-k", "5", "60", "greet", "you") == memory.actions.runs[0][1]
    info = ContainerObserverStub(own).GetServerInfo(observer_pb.GetServerInfoRequest())
    shown = [
        (each.name, list(each.images), each.image_label, [(a.name, a.pattern) for a in each.arguments])
        for each in info.actions
    ]
    label = "botmaker.actions=openclaw"
    assert [
        ("ready", ["official:*"], "", []),
        ("greet", [], "", [("who", "[a-z]+")]),
        ("ready", [], label, []),
        ("pairing-list", [], label, []),
        ("pairing-approve", [], label, [("code", "[A-Z0-9]{8}")]),
        ("doctor", [], label, []),
        ("secrets-reload", [], "", []),
    ] == shown
