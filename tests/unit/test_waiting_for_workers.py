"""Operations that wait for a worker: they give way, and leave nothing behind if they never begin."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_locks import BotLocks
from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, EngineTimeoutError, OperationInProgressError
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool, WorkerPools
from tests.support.waiting import wait_until
from tests.unit.working import A, B, Waiting, Work, change, happens, run


def maintain(operations: BotOperations, bot: str, operation: Any, *, gives_way: bool = False) -> asyncio.Task[Any]:
    change = operations.change(WorkerPool.MAINTENANCE, bot, operation, Deadline(), gives_way=lambda: gives_way)
    return asyncio.create_task(change)


@pytest.mark.parametrize("gives_way", [True, False])
@pytest.mark.parametrize("part", ["the first", "a later one", "one that has given way"])
def test_maintenance_that_waits_for_a_worker_gives_way_to_a_call_that_ends_the_bot(
    works: Callable[..., Work], part: str, *, gives_way: bool
) -> None:
    """As when the disk hangs, and with it all workers."""
    waiting, hanging = Waiting(), [works() for _ in range(16)]

    async def scenario(operations: BotOperations) -> None:
        if part != "the first":
            queued = maintain(operations, A, waiting, gives_way=gives_way)
            await happens(waiting.begun)
        calls = [maintain(operations, f"bot-{number}", each) for number, each in enumerate(hanging)]
        for each in hanging:
            await happens(each.begun)
        if part == "the first":
            queued = maintain(operations, A, waiting, gives_way=gives_way)
        if part != "one that has given way" or not gives_way:
            waiting.future.set_result("waited")
        await asyncio.sleep(0.05)
        seconds = 10 if gives_way else 0.2
        stops = operations.change(WorkerPool.CHANGE, A, lambda _: "stopped", Deadline(seconds), grace_seconds=86_400)
        stop = asyncio.ensure_future(stops)
        before = "before this operation had changed anything"
        with pytest.raises(OperationInProgressError, match=before if gives_way else "another operation"):
            await asyncio.gather(stop, queued)
        assert not gives_way or "stopped" == await stop
        for each in hanging:
            each.go.set()
        await asyncio.gather(*calls)
        assert gives_way or "waited" == await queued
        assert (part != "the first" or not gives_way) == waiting.begun.is_set() == waiting.ended.is_set()

    run(scenario)


def test_a_thread_that_cannot_start_loses_no_job_and_runs_none_twice(
    works: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's first worker carries the job out when it is free."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pools = WorkerPools(dict.fromkeys(WorkerPool, 4))
    busy = works("busy")
    first = pools.submit(WorkerPool.CHANGE, lambda: busy(Deadline()))
    assert busy.begun.wait(60)
    ran: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        second = pools.submit(WorkerPool.CHANGE, lambda: ran.append("second"))
        withdrawn = pools.submit(WorkerPool.CHANGE, lambda: ran.append("withdrawn"))
        assert withdrawn.cancel()
    busy.go.set()
    assert "busy" == first.result(60)
    second.result(60)
    assert ["second"] == ran
    wait_until(lambda: not pools._jobs, "no job is kept")
    pools.close()


def test_jobs_that_are_cancelled_leave_nothing_in_the_queue_of_a_pool_that_hangs(works: Callable[..., Work]) -> None:
    """Neither an entry, nor what their context holds, such as a call's metadata."""
    pools = WorkerPools(dict.fromkeys(WorkerPool, 1))
    hanging = works()
    first = pools.submit(WorkerPool.PROVISION, lambda: hanging(Deadline()))
    assert hanging.begun.wait(60)
    call: ContextVar[Work] = ContextVar("call")
    metadata = []
    for _ in range(100):
        held = Work()
        metadata.append(weakref.ref(held))
        context = copy_context()
        context.run(call.set, held)
        assert context.run(pools.submit, WorkerPool.PROVISION, print).cancel()
    del context, held
    gc.collect()
    assert {None} == {each() for each in metadata}
    assert 0 == len(pools._waiting[WorkerPool.PROVISION])
    assert 1 >= pools._pools[WorkerPool.PROVISION]._work_queue.qsize()
    last = pools.submit(WorkerPool.PROVISION, lambda: "last")
    hanging.go.set()
    assert ["done", "last"] == [first.result(60), last.result(60)]
    pools.close()


def test_changes_that_give_up_while_the_locks_disk_hangs_leave_nothing_in_its_queue(
    works: Callable[..., Work], tmp_path: Path
) -> None:
    async def scenario() -> None:
        operations = BotOperations(1, locks=BotLocks(tmp_path))
        hanging = works()
        operations.workers.submit(WorkerPool.LOCK, lambda: hanging(Deadline()))
        await happens(hanging.begun)
        for number in range(20):
            with pytest.raises(EngineTimeoutError, match="lock file"):
                await change(operations, f"bot-{number % 2}", lambda _: "never", 0.01)
        assert 0 == len(operations.workers._waiting[WorkerPool.LOCK]) == len(operations._turns)
        hanging.go.set()
        assert "done" == await change(operations, A, lambda _: "done", 60)
        operations.close()

    asyncio.run(scenario())


def test_a_withdrawn_change_lets_go_of_its_request_although_no_worker_is_free(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        busy, withdrawn = works("busy"), Waiting()
        request = weakref.ref(withdrawn)
        first = change(operations, A, busy)
        await happens(busy.begun)
        with pytest.raises(CapacityExceededError):
            await change(operations, B, withdrawn, 0.1)
        del withdrawn
        while operations.changes_under_way > 1:  # noqa: ASYNC110 - a few iterations of the loop
            await asyncio.sleep(0)
        gc.collect()
        assert request() is None
        busy.go.set()
        assert "busy" == await first

    run(scenario, workers=1)
