"""Operations run in order per bot, in threads, and to their end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from container_manager.bot_locks import BotLocks
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
)
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.starts import Starts
from container_manager.scheduling.worker_pools import WorkerPool
from tests.support.waiting import wait_until
from tests.unit.working import A, B, Work, change, happens, run


def test_changes_of_one_bot_run_one_at_a_time_in_the_order_they_came() -> None:
    order: list[Any] = []

    def step(number: int) -> Callable[[Deadline], int]:
        def work(_: Deadline) -> int:
            order.append(("begin", number))
            order.append(("end", number))
            return number

        return work

    async def scenario(operations: BotOperations) -> None:
        calls = [change(operations, A, step(number)) for number in range(20)]
        assert list(range(20)) == await asyncio.gather(*calls)

    run(scenario)
    assert [(what, number) for number in range(20) for what in ("begin", "end")] == order


def test_creates_and_other_changes_of_one_bot_share_its_turn(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        first, second = works(), works()
        creating = asyncio.create_task(operations.change(WorkerPool.CREATE, A, first, Deadline()))
        await happens(first.begun)
        stopping = change(operations, A, second)
        await asyncio.sleep(0.02)
        assert not second.begun.is_set()
        first.go.set()
        await happens(second.begun)
        second.go.set()
        await asyncio.gather(creating, stopping)

    run(scenario)


def test_different_bots_run_in_parallel() -> None:
    together = threading.Barrier(2)

    async def scenario(operations: BotOperations) -> None:
        await asyncio.gather(*(change(operations, bot, lambda _: together.wait(60)) for bot in (A, B)))

    run(scenario)


def test_reads_run_beside_changes_even_when_all_workers_are_busy(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        stubborn = works()
        stopping = change(operations, A, stubborn)
        await happens(stubborn.begun)
        assert "status" == await operations.read("b", lambda _: "status", Deadline(5))
        stubborn.go.set()
        await stopping

    run(scenario, workers=1)


def test_slow_creates_hold_up_no_stop_of_another_bot(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        pulling = works()
        creating = asyncio.create_task(operations.change(WorkerPool.CREATE, A, pulling, Deadline()))
        await happens(pulling.begun)
        assert "stopped" == await change(operations, B, lambda _: "stopped", 5)
        pulling.go.set()
        await creating

    run(scenario, workers=1)


def test_drain_waits_for_changes_and_returns_false_when_they_outlast_it(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        assert await operations.drain(0)
        work = works()
        call = change(operations, A, work)
        await happens(work.begun)
        assert 1 == operations.changes_under_way
        assert not await operations.drain(0.02)
        work.go.set()
        assert await operations.drain(10)
        assert "done" == await call

    run(scenario)


def test_a_hundred_callers_that_cancel_at_random_leave_nothing_behind() -> None:
    running: dict[str, int] = {A: 0, B: 0}
    guard = threading.Lock()

    def work(bot: str) -> Callable[[Deadline], None]:
        def operation(_: Deadline) -> None:
            with guard:
                running[bot] += 1
                assert 1 == running[bot]
            threading.Event().wait(0.001)
            with guard:
                running[bot] -= 1

        return operation

    async def scenario(operations: BotOperations) -> None:
        calls = []
        for number in range(100):
            bot = (A, B)[number % 2]
            calls.append(change(operations, bot, work(bot), 0.02 if number % 5 == 0 else 10))
            if number % 7 == 0:
                await asyncio.sleep(0)
                calls[-1].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(
            outcome is None or isinstance(outcome, asyncio.CancelledError | ContainerManagerError)
            for outcome in outcomes
        )

    run(scenario)


def test_reads_of_one_wedged_bot_leave_workers_for_every_other(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        wedged = works("wedged")
        stuck = [asyncio.create_task(operations.read("wedged", wedged, Deadline(0.3))) for _ in range(100)]
        await asyncio.to_thread(wedged.begun.wait, 10)
        assert "fine" == await operations.read("other", lambda _: "fine", Deadline(5))
        assert "up" == await operations.probe(lambda _: "up", Deadline(5))
        outcomes = await asyncio.gather(*stuck, return_exceptions=True)
        assert {EngineTimeoutError} == {type(outcome) for outcome in outcomes}
        assert not operations.workers.idle_within(0)
        wedged.go.set()
        assert await asyncio.to_thread(operations.workers.idle_within, 10)

    run(scenario)


class FailingLocks:
    """Locks that cannot be released."""

    def share(self, _bot_id: str) -> bool:
        return True

    def release(self, bot_id: str) -> None:
        raise OSError(bot_id)

    def close(self) -> None:
        pass


def test_a_lock_that_cannot_be_released_keeps_no_turn_and_no_place(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        operations = BotOperations(1, starts=Starts(1), locks=cast("BotLocks", FailingLocks()))
        for expected in ("first", "second"):
            done = operations.change(
                WorkerPool.CHANGE, A, lambda _, result=expected: result, Deadline(10), starts=lambda: True
            )
            assert expected == await done
        await operations.drain(10)
        await asyncio.sleep(0)
        assert 0 == len(operations._turns) == operations.changes_under_way
        operations.close()

    asyncio.run(scenario())
    wait_until(
        lambda: [A, A] == [str(record.exc_info[1]) for record in caplog.records if record.exc_info], "both are logged"
    )


def test_an_operation_that_outlasts_the_service_ends_without_an_error(
    works: Callable[..., Work], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        operations = BotOperations(1, locks=BotLocks(tmp_path))
        work = works()
        call = change(operations, A, work)
        await happens(work.begun)
        assert not await operations.drain(0)
        operations.close()
        work.go.set()
        assert "done" == await call
        await asyncio.sleep(0)
        assert 0 == len(operations._turns)

    asyncio.run(scenario())
    assert [] == caplog.records
