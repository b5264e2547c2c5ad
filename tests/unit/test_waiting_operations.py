"""Operations that wait: they have no worker meanwhile, and end in the same way in a thread of their caller's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    EngineTimeoutError,
    OperationCancelledError,
    OperationInProgressError,
)
from container_manager.operation import GracePeriod, Operation, Pull, Wait, carry_out
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from tests.support.waiting import wait_until
from tests.unit.working import A, B, Waiting, Work, change, happens, run


def begin(operations: BotOperations, bot: str, operation: Any, seconds: float | None = None) -> asyncio.Task[Any]:
    return asyncio.create_task(operations.change(WorkerPool.CREATE, bot, operation, Deadline(seconds)))


def test_a_hundred_that_wait_leave_the_one_worker_to_another() -> None:
    async def scenario(operations: BotOperations) -> None:
        waiting = [Waiting() for _ in range(100)]
        calls = [change(operations, f"bot-{number}", each) for number, each in enumerate(waiting)]
        for each in waiting:
            await happens(each.begun)
        assert 100 == operations.changes_under_way
        assert "made" == await change(operations, B, lambda _: "made", 10)
        for number, each in enumerate(waiting):
            each.future.set_result(f"waited {number}")
        assert [f"waited {number}" for number in range(100)] == await asyncio.gather(*calls)

    run(scenario, workers=1)


def test_one_that_waits_keeps_its_bots_turn() -> None:
    async def scenario(operations: BotOperations) -> None:
        waiting = Waiting()
        first = change(operations, A, waiting)
        await happens(waiting.begun)
        with pytest.raises(OperationInProgressError):
            await change(operations, A, lambda _: "too early", 0.05)
        waiting.future.set_result("done")
        assert "done" == await first

    run(scenario, workers=1)


@pytest.mark.parametrize("gives_up", [True, False])
def test_one_whose_caller_gives_up_ends_at_once_or_with_what_it_waits_for(*, gives_up: bool) -> None:
    async def scenario(operations: BotOperations) -> None:
        at_deadline, cancelled = Waiting(gives_up=gives_up), Waiting(gives_up=gives_up)
        with pytest.raises(EngineTimeoutError):
            await change(operations, A, at_deadline, 0.1)
        call = change(operations, B, cancelled)
        await happens(cancelled.begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if not gives_up:
            assert 2 == operations.changes_under_way
            at_deadline.future.set_result("done")
            cancelled.future.set_result("done")
        assert await operations.drain(10)
        assert at_deadline.ended.is_set()
        assert cancelled.ended.is_set()

    run(scenario)


@pytest.mark.parametrize("way", ["deadline", "cancellation"])
def test_one_whose_caller_gives_up_after_its_wait_ends_although_all_workers_are_busy(
    works: Callable[..., Work], way: str
) -> None:
    """As a create whose image has come, and that no worker goes on with."""

    async def scenario(operations: BotOperations) -> None:
        waiting, busy = Waiting(gives_up=True), works()
        first = change(operations, A, waiting, 0.3 if way == "deadline" else None)
        await happens(waiting.begun)
        holding = change(operations, B, busy)
        await happens(busy.begun)
        waiting.future.set_result("too late")
        if way == "cancellation":
            await asyncio.sleep(0.1)
            first.cancel()
        with pytest.raises((EngineTimeoutError, asyncio.CancelledError)):
            await first
        await happens(waiting.ended)
        # Its turn has ended: the next call waits for the worker.
        with pytest.raises(CapacityExceededError):
            await change(operations, A, lambda _: "next", 0.2)
        busy.go.set()
        await holding

    run(scenario, workers=1)


def test_a_wait_ends_after_its_seconds() -> None:
    def polls(_: Deadline) -> Operation[int]:
        for _ in range(3):
            yield Wait(seconds=0.001)
        return 3

    async def scenario(operations: BotOperations) -> None:
        assert 3 == await change(operations, A, polls)

    run(scenario)
    assert 3 == carry_out(polls(Deadline()))


@pytest.mark.parametrize(
    ("outcome", "rest_blocks", "thread"),
    [
        ("a result", False, "the loop's"),
        ("a result", True, "a worker's"),
        (EngineTimeoutError("late"), False, "a worker's"),
        ("its time", False, "a worker's"),
        ("cancelled", False, "a worker's"),
    ],
)
def test_only_what_follows_a_success_and_does_not_block_runs_on_the_event_loop(
    outcome: Any, thread: str, *, rest_blocks: bool
) -> None:
    future: Future[None] = Future()
    begun = threading.Event()

    def operation(_: Deadline) -> Operation[list[str]]:
        begun.set()
        yield Wait(future=future, seconds=0.1 if outcome == "its time" else None, rest_blocks=rest_blocks)
        first = _thread()
        yield Wait(seconds=0)
        return [first, _thread()]

    async def scenario(operations: BotOperations) -> None:
        call = change(operations, A, operation)
        await happens(begun)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome == "cancelled":
            future.cancel()
        elif outcome == "a result":
            future.set_result(None)
        assert [thread, "a worker's"] == await call

    def _thread() -> str:
        return "the loop's" if threading.current_thread() is threading.main_thread() else "a worker's"

    run(scenario)


def test_what_follows_a_stop_amid_a_longer_operation_runs_in_a_worker() -> None:
    """The stop does not know what comes after it: an upgrade copies the state."""

    def operation(_: Deadline) -> Operation[str]:
        future: Future[None] = Future()
        future.set_result(None)
        yield Wait(future=future, rest_blocks=False)
        return threading.current_thread().name

    async def scenario(operations: BotOperations) -> None:
        name = await operations.change(WorkerPool.MAINTENANCE, A, operation, Deadline())
        assert name.startswith("maintenance")

    run(scenario)


def test_an_error_on_the_event_loop_is_that_of_the_operation() -> None:
    future: Future[None] = Future()
    future.set_result(None)

    def operation(_: Deadline) -> Operation[None]:
        yield Wait(future=future, rest_blocks=False)
        raise EngineTimeoutError("late")

    async def scenario(operations: BotOperations) -> None:
        with pytest.raises(EngineTimeoutError, match="late"):
            await change(operations, A, operation)

    run(scenario)


def test_what_waits_for_images_cannot_take_all_places() -> None:
    """Neither creates nor upgrades and restores; one that has changed something has to go on."""

    async def main() -> None:
        operations = BotOperations(4, most_changes=10, most_pulling=3)
        pulling = [Waiting(kind=Pull) for _ in range(5)]

        def maintain(bot: str, operation: Any, *, gives_way: bool) -> asyncio.Task[Any]:
            return asyncio.create_task(
                operations.change(WorkerPool.MAINTENANCE, bot, operation, Deadline(), gives_way=lambda: gives_way)
            )

        calls = [begin(operations, f"bot-{number}", each) for number, each in enumerate(pulling[:2])]
        calls.append(maintain("bot-2", pulling[2], gives_way=True))
        for each in pulling[:3]:
            await happens(each.begun)
        for refused in (begin(operations, A, pulling[3]), maintain(A, pulling[3], gives_way=True)):
            with pytest.raises(CapacityExceededError, match="3 bots wait for images already"):
                await refused
        assert pulling[3].ended.is_set()
        calls.append(maintain(A, pulling[4], gives_way=False))
        assert "local" == await begin(operations, B, lambda _: "local")
        assert "stopped" == await change(operations, B, lambda _: "stopped")
        for each in pulling:
            each.future.set_result("pulled")
        assert ["pulled"] * 4 == await asyncio.gather(*calls)
        assert "pulled" == await begin(operations, A, pulling[3])
        operations.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_pull_that_tells_how_far_it_is_keeps_its_place() -> None:
    begun, over = threading.Event(), threading.Event()
    pulled: Future[None] = Future()

    def progressing(_: Deadline) -> Operation[str]:
        while not pulled.done():
            yield Pull(future=pulled, seconds=0.001)
            begun.set()
        over.set()
        yield Wait(seconds=60)
        return ""

    async def main() -> None:
        operations = BotOperations(4, most_pulling=1)
        first = begin(operations, A, progressing)
        await happens(begun)
        for _ in range(20):
            with pytest.raises(CapacityExceededError):
                await begin(operations, B, Waiting(kind=Pull))
        assert not first.done()
        pulled.set_result(None)
        other = Waiting(kind=Pull)
        other.future.set_result("its turn")
        await happens(over)
        assert "its turn" == await begin(operations, B, other)
        first.cancel()
        operations.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_pull_that_is_over_leaves_its_place_to_another() -> None:
    """Whatever its operation does next: it works, or waits for the end of a bot."""
    working, go = threading.Event(), threading.Event()
    pulled, stopped = Waiting(kind=Pull), Future[None]()
    pulled.future.set_result("pulled")

    def works(_: Deadline) -> Operation[str]:
        yield Pull(future=pulled.future)
        working.set()
        assert go.wait(60)
        return ""

    def ends_a_bot(_: Deadline) -> Operation[str]:
        yield Pull(seconds=0.001)
        working.set()
        yield GracePeriod(future=stopped, grace_seconds=60, kill=lambda: stopped)
        return ""

    async def main() -> None:
        operations = BotOperations(4, most_pulling=1)
        for operation in (works, ends_a_bot):
            working.clear()
            call = begin(operations, A, operation)
            await happens(working)
            # The loop learns of the next wait a moment later.
            await asyncio.to_thread(wait_until, lambda: not operations._pulling, "its place is free", 10)
            assert "pulled" == await begin(operations, B, pulled)
            go.set()
            if operation is ends_a_bot:
                stopped.set_result(None)
            assert "" == await call
        operations.close()

    asyncio.run(asyncio.wait_for(main(), 40))


def test_changes_under_way_are_bounded_also_those_whose_callers_have_gone() -> None:
    async def main() -> None:
        operations = BotOperations(4, most_changes=3)
        waiting = [Waiting() for _ in range(3)]
        for number, each in enumerate(waiting):
            call = change(operations, f"bot-{number}", each)
            await happens(each.begun)
            call.cancel()
        with pytest.raises(CapacityExceededError, match="3 changes under way already"):
            await change(operations, A, lambda _: "one too many")
        waiting[0].future.set_result("")
        await asyncio.to_thread(wait_until, lambda: operations.changes_under_way < 3, "one of them ends")
        assert "fits" == await change(operations, A, lambda _: "fits")
        for each in waiting[1:]:
            each.future.set_result("")
        assert await operations.drain(10)
        operations.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "pools", [(WorkerPool.MAINTENANCE, WorkerPool.CHANGE), (WorkerPool.CHANGE, WorkerPool.MAINTENANCE)]
)
def test_maintenance_and_other_changes_leave_each_other_room(pools: tuple[WorkerPool, WorkerPool]) -> None:
    many, other = pools

    async def main() -> None:
        operations = BotOperations(4, most_changes=2)
        waiting = [Waiting() for _ in range(2)]
        calls = [
            asyncio.create_task(operations.change(many, f"bot-{number}", each, Deadline()))
            for number, each in enumerate(waiting)
        ]
        for each in waiting:
            await happens(each.begun)
        with pytest.raises(CapacityExceededError, match=r"2 .* under way already"):
            await operations.change(many, A, lambda _: "one too many", Deadline())
        assert "done" == await operations.change(other, A, lambda _: "done", Deadline())
        assert 2 == operations.changes_under_way
        assert not await operations.drain(0.01)
        for each in waiting:
            each.future.set_result("")
        await asyncio.gather(*calls)
        operations.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_change_with_a_shorter_grace_overtakes() -> None:
    killed: Future[None] = Future()

    def stubborn(_: Deadline) -> Operation[str]:
        def kill() -> Future[None]:
            killed.set_result(None)
            return killed

        yield GracePeriod(future=killed, grace_seconds=86_400, kill=kill)
        return "killed"

    async def scenario(operations: BotOperations) -> None:
        first = asyncio.create_task(operations.change(WorkerPool.CHANGE, A, stubborn, Deadline(), grace_seconds=86_400))
        await asyncio.sleep(0)
        second = operations.change(WorkerPool.CHANGE, A, lambda _: "next", Deadline(60), grace_seconds=0)
        assert ["killed", "next"] == await asyncio.gather(first, second)

    run(scenario)


@pytest.mark.parametrize("has_changed_something", [False, True])
def test_a_wait_before_the_first_change_ends_for_a_call_that_ends_the_bot(has_changed_something: bool) -> None:
    async def scenario(operations: BotOperations) -> None:
        first, others = Waiting(), []
        waits = operations.change(
            WorkerPool.MAINTENANCE, A, first, Deadline(), gives_way=lambda: not has_changed_something
        )
        waiting = asyncio.create_task(waits)
        await happens(first.begun)
        # One without a grace period, such as a create, ends no wait.
        others.append(change(operations, A, lambda _: "created"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        stop = operations.change(WorkerPool.CHANGE, A, lambda _: "stopped", Deadline(60), grace_seconds=86_400)
        others.append(asyncio.create_task(stop))
        if has_changed_something:
            await asyncio.sleep(0.05)
            assert not first.ended.is_set()
            first.future.set_result("waited")
            assert "waited" == await waiting
        else:
            with pytest.raises(OperationInProgressError, match="before this operation had changed anything"):
                await waiting
        assert ["created", "stopped"] == await asyncio.gather(*others)

    run(scenario)


def test_carried_out_in_a_thread_an_operation_gives_up_with_its_deadline() -> None:
    with pytest.raises(EngineTimeoutError):
        carry_out(Waiting(gives_up=True)(Deadline(0.05)))
    deadline = Deadline()
    waiting = Waiting(gives_up=True)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: carry_out(waiting(deadline)))
        assert waiting.begun.wait(60)
        deadline.cancel()
        with pytest.raises(OperationCancelledError):
            call.result(60)
