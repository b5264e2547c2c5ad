"""A long grace period holds up no other bot, and a shorter one ends it early."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager.engine.timestamps import time_ns
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.serving import running_server
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until

DAY = 86_400
RUNNING, EXITED = pb.CONTAINER_STATE_RUNNING, pb.CONTAINER_STATE_EXITED


def run_stubborn(calls: Calls, bots: Bots) -> str:
    """A bot whose process ignores SIGTERM, once its handler is installed."""
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN, network="none")
    bots.wait_for_log(bot_id, b"ready")
    return bot_id


@contextmanager
def under_way(verb: str, stub: ContainerManagerStub, bots: Bots, bot_id: str, grace: int = DAY) -> Iterator[Any]:
    """A call whose grace period has begun; yields its future. Killed at the end, if nothing else ended it."""
    request = getattr(pb, f"{verb}ContainerRequest")(bot_id=bot_id, grace_period=Duration(seconds=grace))
    call = getattr(stub, f"{verb}Container").future(request)
    bots.wait_for_log(bot_id, b"asked")
    assert not call.done()
    try:
        yield call
    finally:
        if not call.done():
            bots.engine.containers.get(f"botmaker-{bot_id}").kill()
            call.exception(timeout=60)


def state(calls: Calls, bot_id: str) -> int | None:
    """The state in the bot's status; ``None`` without a container."""
    status = calls.status(bot_id)
    return None if status is None else status.state


def end(verb: str, calls: Calls, bot_id: str, grace: float | None) -> None:
    """Stop, Restart or Remove."""
    getattr(calls, verb.lower())(bot_id, grace=grace)


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [
        ("Stop", "Stop", EXITED),
        ("Stop", "Restart", RUNNING),
        ("Stop", "Remove", None),
        ("Restart", "Stop", EXITED),
        ("Restart", "Restart", RUNNING),
        ("Restart", "Remove", None),
        ("Remove", "Stop", None),
        ("Remove", "Remove", None),
    ],
)
def test_a_grace_of_zero_overtakes_one_of_a_day(  # noqa: PLR0917 - fixtures and parameters
    calls: Calls, stub: ContainerManagerStub, bots: Bots, first: str, second: str, after: int | None
) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way(first, stub, bots, bot_id) as call:
        end(second, calls, bot_id, 0)
        assert call.result(timeout=60) is not None
    assert after == state(calls, bot_id)


def test_an_upgrade_with_a_grace_of_zero_overtakes_a_stop_of_a_day(
    calls: Calls, stub: ContainerManagerStub, bots: Bots, target: str, build_image: BuildImage
) -> None:
    bot_id, image = run_stubborn(calls, bots), build_image("LABEL changed=yes")
    request = maintainer_pb.UpgradeContainerRequest(
        bot_id=bot_id, image=image, request_id=bot_id, grace_period=Duration(seconds=0), skip_backup=True
    )
    with under_way("Stop", stub, bots, bot_id) as call, connect(target) as channel:
        *_, last = ContainerMaintainerStub(channel).UpgradeContainer(request, timeout=60)
        assert maintainer_pb.UPGRADE_PHASE_COMMITTED == last.phase
        assert call.result(timeout=60) is not None
    status = calls.status(bot_id)
    assert status is not None
    assert (pb.CONTAINER_STATE_CREATED, image) == (status.state, status.image)
    calls.remove(bot_id)


def test_a_restart_overtakes_a_removal_and_finds_nothing(calls: Calls, stub: ContainerManagerStub, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way("Remove", stub, bots, bot_id) as call:
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            calls.restart(bot_id, grace=0)
        assert call.result(timeout=60) is not None


def test_a_shorter_grace_than_that_under_way_runs_to_its_end(
    calls: Calls, stub: ContainerManagerStub, bots: Bots
) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way("Stop", stub, bots, bot_id) as first:
        begun = time.monotonic()
        calls.stop(bot_id, grace=2)
        assert 2 <= time.monotonic() - begun < 30
        first.result(timeout=60)
    status = calls.status(bot_id)
    assert status is not None
    assert (EXITED, 137) == (status.state, status.exit_code)
    # It was asked to stop once.
    assert 1 == bots.engine.containers.get(f"botmaker-{bot_id}").logs().count(b"asked")


def test_a_restart_that_was_overtaken_has_restarted(calls: Calls, stub: ContainerManagerStub, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    before = calls.status(bot_id)
    with under_way("Restart", stub, bots, bot_id) as first:
        gives_up = stub.StopContainer.future(
            pb.StopContainerRequest(bot_id=bot_id, grace_period=Duration(seconds=1)), timeout=60
        )
        # Only its effect on the grace period is wanted: it gives up before its turn.
        wait_until(first.done, "the restart ends")
        gives_up.cancel()
        first.result()
    after = calls.status(bot_id)
    assert before is not None
    assert after is not None
    assert before.start_time.ToNanoseconds() < after.start_time.ToNanoseconds()


@pytest.mark.usefixtures("early_answers")
def test_an_overtaking_call_that_gives_up_before_its_grace_is_over_changes_nothing(
    calls: Calls, stub: ContainerManagerStub, bots: Bots
) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way("Stop", stub, bots, bot_id, grace=12) as first:
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            calls.stop(bot_id, grace=5, timeout=4)
        first.result(timeout=60)
    log = bots.engine.containers.get(f"botmaker-{bot_id}").logs(timestamps=True).decode()
    [asked] = [time_ns(line.split()[0]) for line in log.splitlines() if line.endswith("asked")]
    # The engine's own times. The bot says that it is asked up to 1 s later.
    finished = time_ns(bots.inspect(bot_id)["State"]["FinishedAt"])
    assert asked is not None
    assert finished is not None
    assert finished - asked > 9e9


def test_a_longer_grace_prolongs_nothing(calls: Calls, stub: ContainerManagerStub, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way("Stop", stub, bots, bot_id, grace=2) as first:
        calls.remove(bot_id, grace=DAY)
        first.result(timeout=60)
    assert state(calls, bot_id) is None


def test_the_default_grace_overtakes_a_longer_one(calls: Calls, stub: ContainerManagerStub, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    with under_way("Stop", stub, bots, bot_id) as first:
        begun = time.monotonic()
        calls.remove(bot_id)
        assert 10 <= time.monotonic() - begun < 40
        first.result(timeout=60)


def test_stops_with_long_graces_hold_up_no_change_of_another_bot(
    service_config: BackendConfig, session_dir: Path, bots: Bots
) -> None:
    """Six of them, with two workers."""
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/few.sock",), workers=2)
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        stub = ContainerManagerStub(channel)
        calls = Calls(stub)
        stubborn = [run_stubborn(calls, bots) for _ in range(6)]
        day = Duration(seconds=DAY)
        stops = [stub.StopContainer.future(pb.StopContainerRequest(bot_id=each, grace_period=day)) for each in stubborn]
        for bot_id in stubborn:
            bots.wait_for_log(bot_id, b"asked")
        other = bots.new()
        stub.CreateContainer(
            pb.CreateContainerRequest(bot_id=other, config=pb.ContainerConfig(command=FOREVER)), timeout=60
        )
        stub.StartContainer(pb.StartContainerRequest(bot_id=other), timeout=60)
        assert state(calls, other) == RUNNING
        stub.RemoveContainer(pb.RemoveContainerRequest(bot_id=other, grace_period=Duration()), timeout=60)
        assert not any(stop.done() for stop in stops)
        for bot_id in stubborn:
            calls.remove(bot_id, grace=0)
        assert [pb.StopContainerResponse()] * 6 == [each.result(timeout=60) for each in stops]
