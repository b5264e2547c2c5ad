"""An operation whose caller gives up: it runs on, and its end is reported."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from functools import partial
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
from container_manager.operation import Operation
from container_manager.provisioning.overtakable import overtakable
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from tests.unit.working import A, B, Work, change, happens, run


def test_waiting_for_the_bots_turn_counts_against_the_deadline(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
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


def test_a_cancelled_waiter_never_starts_and_delays_nobody(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
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


def test_after_a_cancelled_call_the_operation_keeps_the_bots_turn_to_its_end(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
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


def test_a_passed_deadline_answers_at_once_and_cancels_the_operation(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
        work = works(InvalidStateError("nobody hears it"))
        with pytest.raises(EngineTimeoutError):
            await change(operations, A, work, 0.5)
        await happens(work.begun)
        assert not work.ended.is_set()
        assert work.deadline is not None
        assert work.deadline.cancel() is True
        with pytest.raises(OperationCancelledError):
            work.deadline.commit()
        work.go.set()

    run(scenario)


def test_a_committed_result_wins_over_the_deadline() -> None:
    async def scenario(operations: BotOperations) -> None:
        go = threading.Event()

        def commits(deadline: Deadline) -> str:
            deadline.commit()
            assert go.wait(60)
            return "made"

        call = change(operations, A, commits, 0.5)
        await asyncio.sleep(0.6)
        assert not call.done()
        go.set()
        assert "made" == await call

    run(scenario)


def test_a_call_that_gets_no_worker_in_time_is_refused_and_never_starts(works: Callable[..., Work]) -> None:
    async def scenario(operations: BotOperations) -> None:
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


def test_what_was_refused_never_runs() -> None:
    """Three hundred calls for twenty bots with one worker, most of which give up: what ran is recorded by itself."""
    draw = random.Random("20261129 refused")
    ran: list[int] = []

    def working(number: int, seconds: float) -> Callable[[Deadline], str]:
        def work(_: Deadline) -> str:
            ran.append(number)
            time.sleep(seconds)
            return "done"

        return work

    async def scenario(operations: BotOperations) -> None:
        calls = [
            change(
                operations, f"bot-{draw.randrange(20)}", working(number, draw.uniform(0, 0.005)), draw.uniform(0, 0.3)
            )
            for number in range(300)
        ]
        for call in draw.sample(calls, 50):
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.2), call.cancel)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert await operations.drain(10)
        refused = {
            number
            for number, outcome in enumerate(outcomes)
            if isinstance(outcome, (CapacityExceededError, OperationInProgressError))
            or (isinstance(outcome, EngineTimeoutError) and "nothing was done" in str(outcome))
        }
        assert set() == refused & set(ran)
        assert refused
        assert len(set(ran)) == len(ran) >= outcomes.count("done") > 0

    run(scenario, workers=1)


def test_a_deadline_that_passes_while_workers_are_free_is_no_lack_of_workers() -> None:
    async def scenario(operations: BotOperations) -> None:
        for microseconds in range(200):
            with contextlib.suppress(EngineTimeoutError):
                await change(operations, f"bot {microseconds}", lambda _: "done", microseconds / 1e6)

    run(scenario)


@pytest.mark.parametrize("way", ["deadline", "cancellation"])
def test_work_that_never_began_gives_its_bots_turn_back_while_all_workers_are_busy(
    works: Callable[..., Work], way: str
) -> None:
    async def scenario(operations: BotOperations) -> None:
        first, second, third = works(), works(), works()
        holding = change(operations, A, first)
        await happens(first.begun)
        refused = change(operations, B, second, 0.05 if way == "deadline" else None)
        if way == "deadline":
            with pytest.raises(CapacityExceededError):
                await refused
        else:
            await asyncio.sleep(0)
            assert 2 == len(operations._turns)
            refused.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refused
        # The next caller gets no error that an operation is in progress, but waits for the worker.
        with pytest.raises(CapacityExceededError):
            await change(operations, B, third, 0.05)
        first.go.set()
        await holding
        assert not second.begun.is_set()
        assert not third.begun.is_set()

    run(scenario, workers=1)


@pytest.mark.parametrize("way", ["deadline", "cancellation", "cancellation before it is queued"])
def test_a_program_that_never_began_gives_its_bots_turn_back_while_all_its_workers_are_busy(
    works: Callable[..., Work], way: str
) -> None:
    ran: list[str] = []
    asked, go = threading.Event(), threading.Event()

    async def scenario(operations: BotOperations) -> None:
        submit = partial(operations.workers.submit, WorkerPool.RELOAD)
        busy = works()
        holding = submit(partial(busy, Deadline()))
        await happens(busy.begun)

        def reload(deadline: Deadline) -> Operation[None]:
            asked.set()
            assert go.wait(60)
            yield from overtakable(submit, A, lambda: ran.append(A), 90, deadline)

        if way != "cancellation before it is queued":
            go.set()
        refused = change(operations, A, reload, 0.2 if way == "deadline" else None)
        if way == "deadline":
            with pytest.raises(CapacityExceededError):
                await refused
        else:
            await happens(asked)
            await asyncio.sleep(0.1)
            refused.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refused
            go.set()
        assert "next" == await change(operations, A, lambda _: "next", 10)
        busy.go.set()
        await asyncio.wrap_future(holding)

    run(scenario, workers=1)
    assert [] == ran


@pytest.mark.parametrize("outcome", [InvalidStateError("paused"), ValueError("a bug")])
def test_an_operations_error_reaches_its_caller_and_ends_the_turn(outcome: Exception) -> None:
    def fails(_: Deadline) -> None:
        raise outcome

    async def scenario(operations: BotOperations) -> None:
        with pytest.raises(type(outcome)) as caught:
            await change(operations, A, fails, 5)
        assert outcome is caught.value
        assert 1 == await change(operations, A, lambda _: 1, 5)

    run(scenario)


@pytest.mark.parametrize("outcome", ["late", InvalidStateError("late"), ValueError("a late bug")])
def test_an_abandoned_operations_exception_is_not_reported_as_never_retrieved(
    works: Callable[..., Work], outcome: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged with its traceback; asyncio reports no unretrieved exception."""

    async def scenario(operations: BotOperations) -> None:
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

    with caplog.at_level("INFO", "container_manager.scheduling.bot_operations"):
        run(scenario)
    assert (outcome != "late") == bool(caplog.records)
    bug = isinstance(outcome, Exception) and not isinstance(outcome, ContainerManagerError)
    assert bug == any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("outcome", ["done", InvalidStateError("not now")])
def test_the_end_of_every_change_is_reported_before_its_caller_gets_the_answer(
    works: Callable[..., Work], outcome: Any
) -> None:
    async def scenario() -> None:
        told: list[Any] = []
        operations = BotOperations(1)
        work = works(outcome)
        work.go.set()
        with contextlib.suppress(InvalidStateError):
            await operations.change(
                WorkerPool.CHANGE,
                A,
                work,
                Deadline(),
                on_turn=lambda: told.append("turn"),
                on_end=lambda ended: told.append(ended and (ended.exception() or ended.result())),
            )
        assert ["turn", outcome] == told
        operations.close()

    asyncio.run(scenario())


def test_the_end_of_a_change_is_reported_also_after_its_caller_has_gone(works: Callable[..., Work]) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()
        operations = BotOperations(1)
        work = works()
        caller = asyncio.create_task(
            operations.change(WorkerPool.CHANGE, A, work, Deadline(), on_end=lambda _: ended.set())
        )
        await asyncio.to_thread(work.begun.wait, 10)
        caller.cancel()
        await asyncio.wait({caller})
        assert not ended.is_set()
        work.go.set()
        await asyncio.wait_for(ended.wait(), 60)
        operations.close()

    asyncio.run(scenario())
