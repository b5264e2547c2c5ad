"""A bot that ``container-manager adopt`` looks at is changed by no service meanwhile, and the other way round."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from container_manager import bot_locks
from container_manager.bot_directories import RootDirectory
from container_manager.bot_locks import LOCK_FILE, BotLocks, shared_locks
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.provisioning_calls import put_secrets
from tests.support.waiting import wait_until


@pytest.fixture
def locks(rpc_secrets: RootDirectory) -> Iterator[BotLocks]:
    """Another process's."""
    locks = BotLocks(rpc_secrets.path)
    yield locks
    locks.close()


@pytest.mark.usefixtures("early_answers")
def test_a_change_waits_while_its_bot_is_adopted_and_other_bots_do_not(
    calls: Calls, provisioner: BotProvisionerStub, memory: MemoryBackend, bots: MemoryBots, locks: BotLocks
) -> None:
    bot_id, other = bots.new(), bots.new()
    calls.run(bot_id)
    wait_until(lambda: locks.take(bot_id), "the change before has ended")
    calls.run(other)
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(calls.stop, bot_id, 0)
        put = pool.submit(put_secrets, provisioner, bot_id, A=b"x")
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
            calls.stub.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot_id), timeout=4)
        assert [("start_container", bot_id)] == [call for call in memory.seen() if call[1] == bot_id][-1:]
        # Reads do not wait.
        status = calls.status(bot_id)
        assert status is not None
        assert pb.CONTAINER_STATE_RUNNING == status.state
        assert not stopped.done()
        locks.release(bot_id)
        stopped.result(60)
        put.result(60)
    wait_until(lambda: locks.take(bot_id), "the change before has ended")


@pytest.mark.usefixtures("early_answers")
def test_a_bot_cannot_be_adopted_while_a_change_of_it_is_under_way_also_when_its_caller_has_gone(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots, locks: BotLocks
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    with memory.held("stop_container"):
        with pytest.raises(grpc.RpcError):
            calls.stop(bot_id, grace=0, timeout=4)
        assert not locks.take(bot_id)
        assert locks.share(bot_id), "another service's change is the engine's to arbitrate"
        locks.release(bot_id)
    wait_until(lambda: locks.take(bot_id), "the change has ended")


@pytest.mark.usefixtures("early_answers")
def test_a_deleted_lock_file_is_made_anew_and_keeps_the_locks(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots, locks: BotLocks, rpc_secrets: RootDirectory
) -> None:
    bot_id, other = bots.new(), bots.new()
    calls.run(bot_id)
    calls.run(other)
    with memory.held("stop_container") as gate, ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(calls.stop, bot_id, 0)
        memory.await_calls("stop_container")
        (rpc_secrets.path / LOCK_FILE).unlink()
        calls.start(other)
        later = BotLocks(rpc_secrets.path)
        with closing(later):
            assert not later.take(bot_id), "the change under way has its lock in the new file"
            gate.open()
            stopped.result(60)
            wait_until(lambda: later.take(bot_id), "the change has ended")
            assert not locks.share(bot_id), "one that was opened before uses the new file, too"
            with fails_with("ABORTED", "OPERATION_IN_PROGRESS"):
                calls.start(bot_id, timeout=4)


class Disk:
    """Where the locks are; it does not answer in time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *kinds: int) -> None:
        """``kinds``: the calls that wait."""
        self.asked, self.answers = Event(), Event()
        lock = bot_locks._lock

        def slow(file: int, bot_id: str, kind: int) -> bool:
            if kind in kinds:
                self.asked.set()
                assert self.answers.wait(60)
            return lock(file, bot_id, kind)

        monkeypatch.setattr(bot_locks, "_lock", slow)


@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_UNLCK], ids=["share", "release"])
def test_a_disk_that_does_not_answer_holds_up_no_read(
    calls: Calls, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    disk = Disk(monkeypatch, kind)
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(calls.stop, bot_id, 0)
        assert disk.asked.wait(60)
        calls.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=20)
        disk.answers.set()
        stopped.result(60)
    calls.start(bot_id)


@pytest.mark.usefixtures("early_answers")
def test_a_change_whose_caller_leaves_before_the_disk_answers_keeps_no_lock_and_is_not_done(
    calls: Calls, memory: MemoryBackend, bots: MemoryBots, locks: BotLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    disk = Disk(monkeypatch, fcntl.F_RDLCK)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT") as caught:
        calls.stop(bot_id, grace=0, timeout=4)
    assert LOCK_FILE in caught[0].message
    disk.answers.set()
    wait_until(lambda: locks.take(bot_id), "the lock is released")
    locks.release(bot_id)
    calls.start(bot_id)
    assert [] == memory.seen("stop_container")


def test_a_root_without_a_place_for_the_lock_is_told_and_the_service_serves(
    rpc_secrets: RootDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    (rpc_secrets.path / LOCK_FILE).mkdir()
    assert shared_locks(rpc_secrets.path) is None
    assert "stop this service before you adopt bots" in caplog.text
