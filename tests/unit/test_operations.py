"""Operations in order per bot, in threads, to their end, whatever becomes of their callers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    InvalidStateError,
    OperationCancelledError,
    OperationInProgressError,
)
from container_manager.rpc.operations import Lane, Operations

A, B = "bot-a", "bot-b"


class Work:
    """An operation that begins, and goes on until it is let go."""

    def __init__(self, outcome: Any = "done") -> None:
        self.begun, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.outcome = outcome
        self.deadline: Deadline | None = None

    def __call__(self, deadline: Deadline) -> Any:
        self.deadline = deadline
        self.begun.set()
        assert self.go.wait(10), "the test never let it go"
        self.ended.set()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def works() -> Iterator[Callable[..., Work]]:
    """Makes operations; all are let go in the end."""
    made: list[Work] = []

    def make(outcome: Any = "done") -> Work:
        made.append(Work(outcome))
        return made[-1]

    yield make
    for work in made:
        work.go.set()


def run(scenario: Callable[[Operations], Awaitable[None]], workers: int = 4) -> None:
    """Run a scenario; afterwards no lock and no change may be left."""

    async def main() -> None:
        operations = Operations(workers)
        try:
            await asyncio.wait_for(scenario(operations), 20)
            assert await operations.drain(10)
            await asyncio.sleep(0)
            assert 0 == len(operations._changing) == len(operations._reading)
            assert not operations.busy
            assert 0 == operations.changes_under_way
        finally:
            operations.close()

    asyncio.run(main())


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


def change(operations: Operations, bot: str, work: Any, seconds: float | None = None) -> asyncio.Task[Any]:
    return asyncio.create_task(operations.change(Lane.CHANGE, bot, work, Deadline(seconds)))


def test_changes_of_one_bot_run_one_at_a_time_in_the_order_they_came() -> None:
    order: list[Any] = []

    def step(number: int) -> Callable[[Deadline], int]:
        def work(_: Deadline) -> int:
            order.append(("begin", number))
            order.append(("end", number))
            return number

        return work

    async def scenario(operations: Operations) -> None:
        calls = [change(operations, A, step(number)) for number in range(20)]
        assert list(range(20)) == await asyncio.gather(*calls)

    run(scenario)
    assert [(what, number) for number in range(20) for what in ("begin", "end")] == order


def test_creates_and_other_changes_of_one_bot_share_its_turn(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        first, second = works(), works()
        creating = asyncio.create_task(operations.change(Lane.CREATE, A, first, Deadline()))
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

    async def scenario(operations: Operations) -> None:
        await asyncio.gather(*(change(operations, bot, lambda _: together.wait(10)) for bot in (A, B)))

    run(scenario)


def test_reads_run_beside_changes_even_when_all_workers_are_busy(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        stubborn = works()
        stopping = change(operations, A, stubborn)
        await happens(stubborn.begun)
        assert "status" == await operations.read("b", lambda _: "status", Deadline(5))
        stubborn.go.set()
        await stopping

    run(scenario, workers=1)


def test_slow_creates_hold_up_no_stop_of_another_bot(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        pulling = works()
        creating = asyncio.create_task(operations.change(Lane.CREATE, A, pulling, Deadline()))
        await happens(pulling.begun)
        assert "stopped" == await change(operations, B, lambda _: "stopped", 5)
        pulling.go.set()
        await creating

    run(scenario, workers=1)


def test_waiting_for_the_bots_turn_counts_against_the_deadline(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        first, second = works(), works()
        holding = change(operations, A, first)
        await happens(first.begun)
        with pytest.raises(OperationInProgressError) as caught:
            await change(operations, A, second, 0.05)
        assert {"bot_id": A} == caught.value.metadata
        first.go.set()
        assert "done" == await holding
        assert not second.begun.is_set()

    run(scenario)


def test_a_cancelled_waiter_never_begins_and_holds_nobody_up(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        first, second, third = works(), works(), works("third")
        third.go.set()
        holding = change(operations, A, first)
        await happens(first.begun)
        waiting, next_one = change(operations, A, second), change(operations, A, third)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.go.set()
        assert ["done", "third"] == await asyncio.gather(holding, next_one)
        assert not second.begun.is_set()

    run(scenario)


def test_a_cancelled_caller_leaves_the_operation_to_its_end_with_the_bots_turn(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        first, second = works(), works("second")
        second.go.set()
        calling = change(operations, A, first)
        await happens(first.begun)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert first.deadline is not None
        with pytest.raises(OperationCancelledError):
            first.deadline.check()
        assert 1 == operations.changes_under_way
        following = change(operations, A, second)
        await asyncio.sleep(0.02)
        assert not second.begun.is_set()
        first.go.set()
        assert "second" == await following
        assert first.ended.is_set()

    run(scenario)


def test_a_passed_deadline_answers_at_once_and_tells_the_operation(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        work = works(InvalidStateError("nobody hears it"))
        with pytest.raises(EngineTimeoutError):
            await change(operations, A, work, 0.05)
        await happens(work.begun)
        assert not work.ended.is_set()
        assert work.deadline is not None
        assert work.deadline.cancel() is True
        with pytest.raises(OperationCancelledError):
            work.deadline.commit()
        work.go.set()

    run(scenario)


def test_a_committed_result_wins_over_the_deadline() -> None:
    async def scenario(operations: Operations) -> None:
        go = threading.Event()

        def commits(deadline: Deadline) -> str:
            deadline.commit()
            assert go.wait(10)
            return "made"

        call = change(operations, A, commits, 0.05)
        await asyncio.sleep(0.1)
        assert not call.done()
        go.set()
        assert "made" == await call

    run(scenario)


def test_a_call_that_no_worker_came_free_for_is_refused_and_never_begins(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
        first, second = works(), works()
        holding = change(operations, A, first)
        await happens(first.begun)
        with pytest.raises(CapacityExceededError):
            await change(operations, B, second, 0.05)
        first.go.set()
        await holding
        assert await operations.drain(10)
        assert not second.begun.is_set()

    run(scenario, workers=1)


@pytest.mark.parametrize("outcome", [InvalidStateError("paused"), ValueError("a bug")])
def test_an_operations_error_is_its_callers_and_ends_its_turn(outcome: Exception) -> None:
    def fails(_: Deadline) -> None:
        raise outcome

    async def scenario(operations: Operations) -> None:
        with pytest.raises(type(outcome)) as caught:
            await change(operations, A, fails, 5)
        assert outcome is caught.value
        assert 1 == await change(operations, A, lambda _: 1, 5)

    run(scenario)


@pytest.mark.parametrize("outcome", ["late", InvalidStateError("late"), ValueError("a late bug")])
def test_whatever_an_abandoned_operation_ends_with_is_not_lost_on_the_loop(
    works: Callable[..., Work], outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is logged with its traceback; asyncio has nothing to complain of."""

    async def scenario(operations: Operations) -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        work = works(outcome)
        calling = change(operations, A, work)
        await happens(work.begun)
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        work.go.set()
        assert await operations.drain(10)
        assert [] == complaints

    with caplog.at_level("INFO", "container_manager.rpc.operations"):
        run(scenario)
    assert (outcome != "late") == bool(caplog.records)
    bug = isinstance(outcome, Exception) and not isinstance(outcome, ContainerManagerError)
    assert bug == any(record.exc_info for record in caplog.records)


def test_drain_waits_for_changes_and_tells_when_they_outlast_it(works: Callable[..., Work]) -> None:
    async def scenario(operations: Operations) -> None:
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


def test_a_hundred_callers_in_disarray_leave_nothing_behind() -> None:
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

    async def scenario(operations: Operations) -> None:
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
    async def scenario(operations: Operations) -> None:
        wedged = works("wedged")
        stuck = [asyncio.create_task(operations.read("wedged", wedged, Deadline(0.3))) for _ in range(100)]
        await asyncio.to_thread(wedged.begun.wait, 10)
        assert "fine" == await operations.read("other", lambda _: "fine", Deadline(5))
        assert "up" == await operations.probe(lambda _: "up", Deadline(5))
        outcomes = await asyncio.gather(*stuck, return_exceptions=True)
        assert {EngineTimeoutError} == {type(outcome) for outcome in outcomes}
        assert operations.busy
        wedged.go.set()
        await asyncio.wait(list(operations._under_way))

    run(scenario)
