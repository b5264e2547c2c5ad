"""Upgrades, backups and restores beside the archives of other bots: no bot is stopped while it has to wait for them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.config import ServerConfig
from container_manager.maintenance.backup_store import Backup, BackupStore
from container_manager.maintenance.long_runs import _STATES_AT_ONCE
from container_manager.maintenance.manifest import Manifest
from container_manager.model import ContainerState
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.waiting import wait_until

RUNNING = manager_pb.CONTAINER_STATE_RUNNING
EXITED, PAUSED = ContainerState.EXITED, ContainerState.PAUSED
WAITING = "waiting for the copies and archives of other bots"
WAITING_TO_START = "waiting until fewer other bots are starting"


@pytest.fixture
def starts_at_once() -> int:
    return 8


@pytest.fixture
def server_config(server_config: Callable[..., ServerConfig], starts_at_once: int) -> Callable[..., ServerConfig]:
    return lambda *listen, **further: server_config(*listen, **{"start_concurrency": starts_at_once, **further})


@pytest.fixture
def new_bot(bots: MemoryBots, calls: Calls, roots: Path) -> Callable[[], str]:
    """Makes running bots with states."""

    def new() -> str:
        bot_id = bots.new()
        calls.run(bot_id, "serve", image="bot:1")
        (roots / "states" / bot_id).mkdir()
        return bot_id

    return new


class Archives:
    """The archives that are being written, of the bots whose archives take long."""

    def __init__(self) -> None:
        self.slow: list[str] = []
        self.begun: list[str] = []
        self.go_on = threading.Event()

    def write(self, bot_id: str) -> None:
        if bot_id in self.slow:
            self.begun.append(bot_id)
            assert self.go_on.wait(60)


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archives]:
    archives, write = Archives(), BackupStore.write

    def written(
        store: BackupStore, backup_id: str, state: int | None, manifest: Manifest, *args: Any, **kw: Any
    ) -> Backup:
        archives.write(manifest.bot_id)
        return write(store, backup_id, state, manifest, *args, **kw)

    monkeypatch.setattr(BackupStore, "write", written)
    yield archives
    archives.go_on.set()


def backed_up(maintainer: ContainerMaintainerStub, bot_id: str, request_id: str = "r") -> Any:
    return maintainer.CreateBackup(
        pb.CreateBackupRequest(bot_id=bot_id, request_id=request_id, stop_and_restart=True), timeout=4
    )


def upgraded(maintainer: ContainerMaintainerStub, bot_id: str, **fields: Any) -> Any:
    request = pb.UpgradeContainerRequest(bot_id=bot_id, request_id=f"of-{bot_id}", image="bot:2", **fields)
    return maintainer.UpgradeContainer(request, timeout=60)


def restored(maintainer: ContainerMaintainerStub, bot_id: str) -> Any:
    (backup,) = maintainer.ListBackups(pb.ListBackupsRequest(bot_id=bot_id), timeout=60).backups
    request = pb.RestoreBackupRequest(bot_id=bot_id, request_id="r", backup_id=backup.backup_id)
    return maintainer.RestoreBackup(request, timeout=60)


def await_message(call: Any, words: str) -> None:
    assert any(words in str(each) for each in call), f"it never said {words}"


def begin_slow_archives(
    maintainer: ContainerMaintainerStub, archives: Archives, new_bot: Callable[[], str], begun: int
) -> list[Any]:
    """As many backups as work on states at once; that many of them write their archives then."""
    archives.slow = [new_bot() for _ in range(_STATES_AT_ONCE)]
    streams = [backed_up(maintainer, bot_id, f"of-{bot_id}") for bot_id in archives.slow]
    wait_until(lambda: len(archives.begun) >= begun, "the archives are being written")
    return streams


@pytest.mark.parametrize("operation", [backed_up, upgraded, restored])
def test_a_bot_runs_while_the_operation_waits_for_archives_of_others(  # noqa: PLR0917 - fixtures
    maintainer: ContainerMaintainerStub,
    archives: Archives,
    new_bot: Callable[[], str],
    calls: Calls,
    memory: MemoryBackend,
    operation: Callable[..., Any],
) -> None:
    bot_id = new_bot()
    list(backed_up(maintainer, bot_id, "before"))
    streams = begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE)
    before, stops = calls.status(bot_id), memory.seen("stop_container")
    call = operation(maintainer, bot_id)
    await_message(call, WAITING)
    assert (before, stops) == (calls.status(bot_id), memory.seen("stop_container"))
    archives.go_on.set()
    for stream in (call, *streams):
        list(stream)


@pytest.mark.parametrize("operation", [backed_up, upgraded, restored])
def test_a_bot_that_is_stopped_goes_on_beside_archives_of_others(  # noqa: PLR0917 - fixtures
    maintainer: ContainerMaintainerStub,
    archives: Archives,
    new_bot: Callable[[], str],
    calls: Calls,
    memory: MemoryBackend,
    operation: Callable[..., Any],
) -> None:
    bot_id = new_bot()
    list(backed_up(maintainer, bot_id, "before"))
    before = calls.status(bot_id)
    with memory.held("stop_container", bot_id):
        call = operation(maintainer, bot_id)
        memory.await_calls("stop_container", 2)
        begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE - 1)
    list(call)
    after = calls.status(bot_id)
    assert before
    assert after
    assert RUNNING == after.state
    assert before.start_time.ToNanoseconds() < after.start_time.ToNanoseconds()


def test_an_operation_that_works_on_no_state_does_not_wait_for_archives(
    maintainer: ContainerMaintainerStub, archives: Archives, new_bot: Callable[[], str]
) -> None:
    bot_id = new_bot()
    begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE)
    *_, last = upgraded(maintainer, bot_id, skip_backup=True)
    assert pb.UPGRADE_PHASE_COMMITTED == last.phase


@pytest.mark.parametrize("starts_at_once", [1])
def test_upgrades_that_wait_for_starts_hold_up_no_backup(
    maintainer: ContainerMaintainerStub, new_bot: Callable[[], str], calls: Calls, memory: MemoryBackend
) -> None:
    starting, bot_id = new_bot(), new_bot()
    calls.stop(starting)
    upgrading = [new_bot() for _ in range(_STATES_AT_ONCE)]
    starts = len(memory.seen("start_container"))
    with ThreadPoolExecutor(1) as pool, memory.held("start_container", starting):
        pool.submit(calls.start, starting)
        memory.await_calls("start_container", starts + 1)
        streams = [upgraded(maintainer, each) for each in upgrading]
        for stream in streams:
            await_message(stream, WAITING_TO_START)
        list(maintainer.CreateBackup(pb.CreateBackupRequest(bot_id=bot_id, request_id="r"), timeout=10))
    for stream in streams:
        list(stream)


@pytest.mark.parametrize("starts_at_once", [1])
@pytest.mark.parametrize("operation", [backed_up, upgraded])
def test_an_operation_that_waits_for_archives_holds_up_no_start(
    maintainer: ContainerMaintainerStub,
    archives: Archives,
    new_bot: Callable[[], str],
    calls: Calls,
    operation: Callable[..., Any],
) -> None:
    bot_id, other = new_bot(), new_bot()
    calls.stop(other)
    begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE)
    call = operation(maintainer, bot_id)
    await_message(call, WAITING)
    calls.start(other, timeout=10)
    archives.go_on.set()
    list(call)


@pytest.mark.parametrize("operation", [backed_up, upgraded, restored])
def test_a_bot_that_ends_while_the_operation_waits_is_not_started(
    maintainer: ContainerMaintainerStub,
    archives: Archives,
    new_bot: Callable[[], str],
    memory: MemoryBackend,
    operation: Callable[..., Any],
) -> None:
    bot_id = new_bot()
    list(backed_up(maintainer, bot_id, "before"))
    begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE)
    call = operation(maintainer, bot_id)
    await_message(call, WAITING)
    starts = memory.seen("start_container").count(("start_container", bot_id))
    memory.change(bot_id, state=EXITED)
    archives.go_on.set()
    list(call)
    assert starts == memory.seen("start_container").count(("start_container", bot_id))


def test_a_backup_that_is_refused_does_not_wait_for_archives(
    maintainer: ContainerMaintainerStub, archives: Archives, new_bot: Callable[[], str], memory: MemoryBackend
) -> None:
    paused = new_bot()
    memory.change(paused, state=PAUSED)
    begin_slow_archives(maintainer, archives, new_bot, _STATES_AT_ONCE)
    with fails_with("FAILED_PRECONDITION", "INVALID_STATE"):
        list(backed_up(maintainer, paused))
    with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
        list(backed_up(maintainer, str(uuid.uuid4()), "of-none"))
