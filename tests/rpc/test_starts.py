"""Starts and restarts through the service: few at once, in order, and none of them holds up other calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backend_provisioning import OnOutput
from container_manager.errors import EngineTimeoutError, StartFailedError
from container_manager.maintenance import readiness
from container_manager.model import ContainerState
from container_manager.scheduling import starts
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observed_service import metrics
from tests.support.scraping import value
from tests.support.serving import LoopedServer
from tests.support.waiting import wait_until

STOPPED, RUNNING = ContainerState.EXITED, ContainerState.RUNNING
Reload = provisioner_pb.ReloadSecretsRequest


class World:
    """A server that starts one bot at a time, and bots whose action ``ready`` fails until the test says otherwise."""

    def __init__(self, looped: LoopedServer, channel: grpc.Channel, memory: MemoryBackend, bots: MemoryBots) -> None:
        self.ready = threading.Event()
        self.messages: list[str] = []
        """What operations have said so far."""
        self.memory = memory
        self.calls = Calls(ContainerManagerStub(channel))
        self.pool = ThreadPoolExecutor(8)
        self.provisioner = BotProvisionerStub(channel)
        self.maintainer = ContainerMaintainerStub(channel)
        self._looped = looped
        self._bots = bots
        memory.actions.program = self._program

    def bot(self, state: ContainerState = STOPPED, **fields: Any) -> str:
        bot_id = self._bots.new()
        self.memory.add(bot_id, state, **{"action_set": "openclaw", **fields})
        return bot_id

    @property
    def waiting(self) -> float:
        return value(metrics(self._looped), "container_manager_starts_waiting")

    def started(self, outcome: str) -> float:
        """How many starts have had this outcome."""
        return value(metrics(self._looped), "container_manager_bot_ready_seconds_count", outcome=outcome)

    def await_waiting(self, count: int) -> None:
        wait_until(lambda: count == self.waiting, f"{count} starts wait")

    def read(self, messages: Iterable[str]) -> None:
        """Keep an operation's messages as they come, until it has ended."""
        self.messages.extend(messages)

    def _program(self, _on_output: OnOutput) -> int:
        return 0 if self.ready.is_set() else 1


@pytest.fixture
def world(serve_looped: ServeLooped, unix: str, memory: MemoryBackend, bots: MemoryBots) -> Iterator[World]:
    with (
        serve_looped(unix, start_concurrency=1, metrics_listen="127.0.0.1:0") as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
        world = World(looped, channel, memory, bots)
        with world.pool:
            yield world


def test_a_start_waits_until_the_bot_before_it_is_ready_while_everything_else_goes_on(world: World) -> None:
    first, second, third, running = world.bot(), world.bot(), world.bot(), world.bot(RUNNING)
    world.calls.start(first)
    started = world.pool.submit(world.calls.start, second)
    world.await_waiting(1)
    restarted = world.pool.submit(world.calls.restart, third)
    world.await_waiting(2)
    for bot_id in (running, first):
        world.calls.start(bot_id)
    world.calls.stop(running)
    status = world.calls.status(second)
    assert status is not None
    assert pb.CONTAINER_STATE_EXITED == status.state
    assert not started.done()
    world.ready.set()
    started.result(60)
    world.calls.stop(second)
    restarted.result(60)
    changes = world.memory.seen("start_container", "restart_container")
    assert [second, third] == [bot_id for _, bot_id in changes if bot_id in {second, third}]
    assert 0 == world.waiting
    # The second one was stopped first.
    wait_until(lambda: (2, 1) == (world.started("ready"), world.started("not_ready")), "each start is measured")


@pytest.mark.usefixtures("early_answers")
def test_a_start_waits_until_its_deadline_and_is_then_not_done(world: World) -> None:
    first, second = world.bot(), world.bot()
    world.calls.start(first)
    with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
        world.calls.start(second, timeout=4)
    assert [("start_container", first)] == world.memory.seen("start_container")
    world.calls.stop(first)
    world.calls.start(second)


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_a_stop_does_not_wait_for_a_start_that_waits_and_the_start_gives_way(world: World, verb: str) -> None:
    first, second = world.bot(), world.bot()
    world.calls.start(first)
    started = world.pool.submit(world.calls.start, second)
    world.await_waiting(1)
    getattr(world.calls, verb)(second)
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        started.result(60)
    assert 0 == world.waiting


def test_a_start_that_fails_and_a_bot_that_is_stopped_hold_no_place(world: World) -> None:
    first, second, third = world.bot(), world.bot(), world.bot()
    world.memory.script("start_container", StartFailedError("no"), bot_id=first)
    with fails_with("FAILED_PRECONDITION", "START_FAILED"):
        world.calls.start(first)
    world.calls.start(second)
    world.calls.stop(second)
    world.calls.start(third)


def test_a_start_whose_caller_has_left_holds_its_place_until_the_bot_is_ready(world: World) -> None:
    """As on a swarm, where the bot's node may still pull the image."""
    first, second, third = world.bot(ContainerState.CREATED), world.bot(), world.bot(ContainerState.CREATED)
    late = EngineTimeoutError("the call's deadline passed")
    late.start_sent = True
    world.memory.script("start_container", late, bot_id=first)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        world.calls.start(first)
    started = world.pool.submit(world.calls.start, second)
    world.await_waiting(1)
    # Longer than the time between two looks at the bot.
    time.sleep(1.5)
    assert 1 == world.waiting, "its image is pulled"
    world.memory.change(first, state=RUNNING, start_time_ns=world.memory.now_ns())
    time.sleep(1.5)
    assert 1 == world.waiting, "it is not ready"
    world.memory.change(first, state=STOPPED)
    started.result(60)
    world.calls.stop(second)
    world.memory.script("start_container", EngineTimeoutError("nothing was sent"), bot_id=third)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        world.calls.start(third)
    world.calls.start(second, timeout=30)


def test_a_start_whose_caller_has_left_lends_its_place_while_its_image_is_pulled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "LEND_SECONDS", 0.1)
    first, second = world.bot(ContainerState.CREATED), world.bot()
    late = EngineTimeoutError("the call's deadline passed")
    late.start_sent = True
    world.memory.script("start_container", late, bot_id=first)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        world.calls.start(first)
    world.calls.start(second, timeout=30)


def test_bots_of_which_nothing_is_declared_hold_no_place(world: World) -> None:
    for _ in range(5):
        world.calls.start(world.bot(action_set=""))
    assert [] == world.memory.actions.runs


def test_a_reload_that_may_restart_the_bot_waits_too_and_any_other_does_not(world: World) -> None:
    first, second = world.bot(), world.bot(RUNNING)
    world.calls.start(first)

    def reload(mode: Any) -> Any:
        return world.provisioner.ReloadSecrets(Reload(bot_id=second, mode=mode), timeout=60)

    with fails_with("FAILED_PRECONDITION", "SECRETS_RELOAD_FAILED"):
        reload(Reload.MODE_RELOAD)
    reloaded = world.pool.submit(reload, Reload.MODE_RELOAD_OR_RESTART)
    world.await_waiting(1)
    world.calls.stop(first)
    assert provisioner_pb.ReloadSecretsResponse.OUTCOME_RESTARTED == reloaded.result(60).outcome


def test_a_reload_that_needs_no_restart_does_not_wait(world: World, memory: MemoryBackend) -> None:
    first, second, stopped = world.bot(), world.bot(RUNNING), world.bot()
    world.calls.start(first)
    started = world.pool.submit(world.calls.start, stopped)
    world.await_waiting(1)
    memory.actions.program = None
    outcomes = [
        world.provisioner.ReloadSecrets(Reload(bot_id=bot_id, mode=Reload.MODE_RELOAD_OR_RESTART), timeout=60).outcome
        for bot_id in (second, world.bot())
    ]
    response = provisioner_pb.ReloadSecretsResponse
    assert [response.OUTCOME_RELOADED, response.OUTCOME_NOT_RUNNING] == outcomes
    assert not started.done()
    world.calls.stop(first)
    started.result(60)


def upgraded(world: World, bot_id: str) -> None:
    """Upgrade a bot."""
    request = maintainer_pb.UpgradeContainerRequest(bot_id=bot_id, image="bot:2", request_id="u", skip_backup=True)
    world.read(each.message for each in world.maintainer.UpgradeContainer(request, timeout=60))


def rolled_back(world: World, bot_id: str) -> None:
    """An upgrade whose new container cannot be started; it has its place, and the old one waits for one."""
    world.memory.script("start_container", StartFailedError("no"), None, bot_id=bot_id)
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        upgraded(world, bot_id)


def backed_up(world: World, bot_id: str) -> None:
    """A backup that stops the bot and starts it again."""
    request = maintainer_pb.CreateBackupRequest(bot_id=bot_id, request_id="b", stop_and_restart=True)
    world.read(each.progress.message for each in world.maintainer.CreateBackup(request, timeout=60))


def restored(world: World, bot_id: str) -> None:
    """Restore a backup."""
    request = maintainer_pb.CreateBackupRequest(bot_id=bot_id, request_id="b")
    *_, last = world.maintainer.CreateBackup(request, timeout=60)
    again = maintainer_pb.RestoreBackupRequest(bot_id=bot_id, backup_id=last.backup.backup_id, request_id="r")
    world.read(each.message for each in world.maintainer.RestoreBackup(again, timeout=60))


@pytest.mark.parametrize("operation", [upgraded, rolled_back, backed_up, restored])
def test_upgrades_backups_and_restores_start_their_bots_in_order(
    world: World, roots: Path, operation: Callable[[World, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need no caller."""
    for seconds in ("HELD_SECONDS", "_LOOK_SECONDS", "_PROBE_SECONDS"):
        monkeypatch.setattr(readiness, seconds, 0.05)
    first, second, third = world.bot(), world.bot(RUNNING), world.bot()
    (roots / "states" / second).mkdir()
    world.calls.start(first)
    before = wait_until(lambda: world.calls.status(second), "the bot is shown")
    done = world.pool.submit(operation, world, second)
    world.await_waiting(1)
    last = world.pool.submit(world.calls.start, third)
    world.await_waiting(2)
    wait_until(lambda: "waiting until fewer other bots are starting" in world.messages, "the wait is told of")
    assert before == world.calls.status(second), "it runs while it waits"
    world.ready.set()
    done.result(60)
    last.result(60)
    started = [bot_id for name, bot_id in world.memory.seen("start_container") if bot_id in {second, third}]
    assert second == started[0]
    assert third in started
    status = world.calls.status(second)
    assert status is not None
    assert pb.CONTAINER_STATE_RUNNING == status.state


@pytest.mark.parametrize("operation", [upgraded, backed_up, restored])
def test_an_upgrade_a_backup_or_a_restore_that_has_changed_nothing_gives_way_to_a_stop(
    world: World, roots: Path, operation: Callable[[World, str], None]
) -> None:
    first, second = world.bot(), world.bot(RUNNING)
    (roots / "states" / second).mkdir()
    world.calls.start(first)
    done = world.pool.submit(operation, world, second)
    world.await_waiting(1)
    world.calls.stop(second)
    with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
        done.result(60)
    assert 0 == world.waiting
    if operation is not restored:
        # The same request id begins anew.
        operation(world, second)
    assert [] == [path.name for path in (roots / "states").glob(".maintenance/*/*")]


@pytest.mark.parametrize("operation", [upgraded, backed_up])
def test_an_upgrade_or_a_backup_that_waits_for_its_bot_ends_no_wait_of_a_start(
    world: World, roots: Path, operation: Callable[[World, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in ("HELD_SECONDS", "_LOOK_SECONDS", "_PROBE_SECONDS"):
        monkeypatch.setattr(readiness, seconds, 0.05)
    first, second = world.bot(), world.bot()
    (roots / "states" / second).mkdir()
    world.calls.start(first)
    started = world.pool.submit(world.calls.start, second)
    world.await_waiting(1)
    done = world.pool.submit(operation, world, second)
    wait_until(lambda: world.messages, "the operation has come")
    assert 1 == world.waiting, "the start goes on waiting"
    world.ready.set()
    started.result(60)
    done.result(60)
    status = world.calls.status(second)
    assert status is not None
    assert pb.CONTAINER_STATE_RUNNING == status.state
