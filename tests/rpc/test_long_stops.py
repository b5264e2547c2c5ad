"""Many stops with long grace periods: neither other bots nor a shorter grace period wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.backend_provisioning import OnOutput
from tests.rpc.backup_calls import bot_with_state, created, restored
from tests.rpc.upgrade_calls import status_of, upgraded
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.threads import started_since

MINUTE = Duration(seconds=60)
DAY = Duration(seconds=86_400)
Change = Callable[[ContainerMaintainerStub, str], object]


def test_two_hundred_stops_in_flight_hold_up_no_create_start_or_remove_and_cost_no_threads(
    rpc: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    stubborn = [bots.new() for _ in range(200)]
    for bot_id in stubborn:
        memory.add(bot_id, stubborn=True)
    other = bots.new()
    rpc.run(other, *FOREVER)
    threads = set(threading.enumerate())
    stops = [
        rpc.stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot_id, grace_period=MINUTE))
        for bot_id in stubborn
    ]
    memory.await_calls("stop_container", 200)
    # Workers that began the stops; fewer than there are stops, and none for a wait.
    started = started_since(threads)
    assert len(started) <= 64, started
    rpc.stop(other, grace=0)
    rpc.start(other)
    rpc.remove(other, grace=0)
    assert not any(stop.done() for stop in stops)
    for bot_id in stubborn:
        rpc.remove(bot_id, grace=0)
    assert [pb.StopContainerResponse()] * 200 == [stop.result(timeout=60) for stop in stops]
    assert {} == memory.containers


def upgraded_at_once(maintainer: ContainerMaintainerStub, bot_id: str) -> None:
    """Its own grace period; the others have the server's."""
    upgraded(maintainer, bot_id, grace_period=Duration(seconds=0))


def backed_up(maintainer: ContainerMaintainerStub, bot_id: str) -> None:
    created(maintainer, bot_id, stop_and_restart=True)


def restored_to_the_last(maintainer: ContainerMaintainerStub, bot_id: str) -> None:
    (backup,) = maintainer.ListBackups(maintainer_pb.ListBackupsRequest(bot_id=bot_id)).backups
    restored(maintainer, bot_id, backup.backup_id)


@pytest.mark.parametrize("change", [upgraded_at_once, backed_up, restored_to_the_last])
def test_an_upgrade_backup_or_restore_that_stops_the_bot_overtakes_a_stop_with_a_longer_grace(  # noqa: PLR0917 - fixtures
    rpc: Calls,
    maintainer: ContainerMaintainerStub,
    memory: MemoryBackend,
    bots: MemoryBots,
    states: Path,
    change: Change,
) -> None:
    if change is not upgraded_at_once:
        memory.lifecycle.default_grace_seconds = 1
    bot_id = bot_with_state(bots, rpc, states)
    created(maintainer, bot_id)
    stop = _stopping_for_a_day(rpc, memory, bot_id)
    change(maintainer, bot_id)
    stop.result(timeout=60)
    assert pb.CONTAINER_STATE_RUNNING != status_of(rpc, bot_id).state, "the stop has ended it"


def test_a_backup_that_stops_no_bot_ends_no_grace(
    rpc: Calls, maintainer: ContainerMaintainerStub, memory: MemoryBackend, bots: MemoryBots, states: Path
) -> None:
    memory.lifecycle.default_grace_seconds = 0
    bot_id = bot_with_state(bots, rpc, states)
    stop = _stopping_for_a_day(rpc, memory, bot_id)
    backup = maintainer.CreateBackup(maintainer_pb.CreateBackupRequest(bot_id=bot_id, request_id="b"))
    next(backup)
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        rpc.start(bot_id, timeout=1)
    assert not stop.done()
    rpc.stop(bot_id, grace=0)
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        list(backup)


def test_an_upgrade_which_may_yet_be_refused_ends_no_reload_of_secrets(
    rpc: Calls,
    maintainer: ContainerMaintainerStub,
    provisioner: BotProvisionerStub,
    memory: MemoryBackend,
    bots: MemoryBots,
) -> None:
    bot_id = bots.new()
    memory.add(bot_id, action_set="openclaw")
    with memory.held("run_action"):
        reload = provisioner.ReloadSecrets.future(provisioner_pb.ReloadSecretsRequest(bot_id=bot_id))
        memory.await_calls("run_action")
        request = maintainer_pb.UpgradeContainerRequest(
            bot_id=bot_id, image="bot:2", request_id="u", grace_period=Duration(seconds=0), skip_backup=True
        )
        upgrade = maintainer.UpgradeContainer(request)
        next(upgrade)
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            rpc.start(bot_id, timeout=1)
    assert provisioner_pb.ReloadSecretsResponse.OUTCOME_RELOADED == reload.result(timeout=60).outcome
    *_, last = upgrade
    assert maintainer_pb.UPGRADE_PHASE_COMMITTED == last.phase


@pytest.mark.parametrize("verb", ["StopContainer", "RestartContainer"])
def test_a_restart_after_a_reload_that_failed_ends_no_grace_of_another_call(
    rpc: Calls, provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, verb: str
) -> None:
    memory.lifecycle.default_grace_seconds = 0
    go = threading.Event()

    def fails(_on_output: OnOutput) -> int:
        assert go.wait(60)
        return 1

    memory.actions.program = fails
    bot_id = bots.new()
    memory.add(bot_id, action_set="openclaw", stubborn=True)
    request = provisioner_pb.ReloadSecretsRequest(
        bot_id=bot_id, mode=provisioner_pb.ReloadSecretsRequest.MODE_RELOAD_OR_RESTART
    )
    reload = provisioner.ReloadSecrets.future(request)
    memory.await_calls("run_action")
    other = getattr(rpc.stub, verb).future(getattr(pb, f"{verb}Request")(bot_id=bot_id, grace_period=DAY))
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        rpc.start(bot_id, timeout=1)
    go.set()
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        rpc.start(bot_id, timeout=1)
    assert not other.done()
    rpc.stop(bot_id, grace=0)
    outcomes = provisioner_pb.ReloadSecretsResponse
    expected = outcomes.OUTCOME_NOT_RUNNING if verb == "StopContainer" else outcomes.OUTCOME_RESTARTED
    assert expected == reload.result(timeout=60).outcome
    other.result(timeout=60)


def _stopping_for_a_day(rpc: Calls, memory: MemoryBackend, bot_id: str) -> Any:
    """The call that stops a bot whose program ignores its stop signal."""
    container = memory.named(bot_id)
    assert container is not None
    container.stubborn = True
    stop = rpc.stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot_id, grace_period=DAY))
    memory.await_calls("stop_container")
    return stop
