"""Which starts are admitted, in which order, and until when a start holds its place; on a virtual clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, EngineUnavailableError, OperationInProgressError
from container_manager.operation import GracePeriod, Operation
from container_manager.scheduling import starts as module
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.starts import LEND_SECONDS, PLACE_SECONDS, Place, Starts
from container_manager.scheduling.worker_pools import WorkerPool
from tests.support.virtual_loop import now, virtual


class Bots:
    """Bots that are ready some seconds after their start."""

    def __init__(self, starts: Starts, ready_after: float) -> None:
        self.admitted: list[tuple[str, float]] = []
        self._starts = starts
        self._ready_after = ready_after
        starts.has_started = self._has_started

    async def start(self, bot_id: str) -> None:
        place = await self._starts.admit(bot_id, Deadline())
        self.admitted.append((bot_id, now()))
        place.ended(started=True)

    async def _has_started(self, _bot_id: str) -> None:
        await asyncio.sleep(self._ready_after)


@virtual
async def test_as_many_start_at_once_as_allowed_in_order_and_a_bot_holds_its_place_until_it_is_ready() -> None:
    starts = Starts(2)
    bots = Bots(starts, ready_after=20)
    await asyncio.gather(*(bots.start(f"bot {number}") for number in range(6)))
    expected = [(f"bot {number}", 20.0 * (number // 2)) for number in range(6)]
    assert expected == bots.admitted


@virtual
async def test_a_bots_next_start_takes_the_place_that_the_bot_still_holds() -> None:
    """As when a caller whose start has timed out tries again; so others do not wait for two places of one bot."""
    starts = Starts(1)
    bots = Bots(starts, ready_after=20)
    await bots.start("a")
    await asyncio.sleep(15)
    await bots.start("a")
    await bots.start("b")
    assert [("a", 0.0), ("a", 15.0), ("b", 35.0)] == bots.admitted
    await asyncio.sleep(20.1)
    assert [] == list(starts._holding)
    first, second = await starts.admit("c", Deadline()), asyncio.ensure_future(starts.admit("d", Deadline()))
    await asyncio.sleep(0)
    assert not second.done()
    first.ended(started=False)
    (await second).ended(started=False)


@virtual
async def test_one_that_is_never_ready_holds_its_place_for_two_minutes() -> None:
    bots = Bots(Starts(1), ready_after=1000)
    await asyncio.gather(*(bots.start(f"bot {number}") for number in range(3)))
    assert [0.0, PLACE_SECONDS, 2 * PLACE_SECONDS] == [second for _, second in bots.admitted]


@virtual
async def test_a_start_that_the_engine_does_not_answer_holds_its_place_for_two_minutes_too() -> None:
    starts = Starts(1)
    hung = await starts.admit("a", Deadline())
    place = await starts.admit("b", Deadline())
    assert PLACE_SECONDS == now()
    hung.ended(started=False)
    waiting = asyncio.create_task(starts.admit("c", Deadline()))
    await asyncio.sleep(1)
    assert not waiting.done(), "a place that has been given up is not given up twice"
    place.ended(started=False)
    (await waiting).release()


@virtual
async def test_a_start_that_has_failed_lets_the_next_one_go_ahead_at_once() -> None:
    starts = Starts(1)
    Bots(starts, ready_after=20)
    (await starts.admit("a", Deadline())).ended(started=False)
    (await starts.admit("b", Deadline())).ended(started=True)
    await starts.admit("c", Deadline())
    assert 20 == now()


@virtual
async def test_a_start_that_waits_long_for_what_takes_no_cpu_lends_its_place_and_has_it_back() -> None:
    starts = Starts(1)
    restart = await starts.admit("a", Deadline())
    other = await waits(starts, "b")
    with starts.lent("a"):
        await asyncio.sleep(LEND_SECONDS - 1)
        assert not other.done(), "bots that are restarted together do not all stop at once"
        (await other).ended(started=False)
        assert LEND_SECONDS == now()
        third = await starts.admit("c", Deadline())
    # One more than allowed now, so two have to end before another comes in.
    waiting = await waits(starts, "d")
    restart.ended(started=False)
    await asyncio.sleep(1)
    assert not waiting.done()
    third.ended(started=False)
    await waiting


@virtual
async def test_a_lent_place_that_ends_is_not_given_up_twice() -> None:
    starts = Starts(1)
    place = await starts.admit("a", Deadline())
    with starts.lent("a"):
        await asyncio.sleep(LEND_SECONDS)
        place.ended(started=False)
    other = await starts.admit("b", Deadline())
    assert not (await waits(starts, "c")).done()
    with starts.lent("a"):
        await asyncio.sleep(LEND_SECONDS)
    assert other.is_held


@virtual
async def test_a_place_that_was_lent_is_held_for_two_minutes_from_its_return() -> None:
    starts = Starts(1)
    await starts.admit("a", Deadline())
    with starts.lent("a"):
        await asyncio.sleep(1000)
    await starts.admit("b", Deadline())
    assert 1000 + PLACE_SECONDS == now()


def test_restarts_with_long_graces_hold_up_no_start_of_another_bot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEND_SECONDS", 0.05)

    async def scenario() -> None:
        operations = BotOperations(2, starts=Starts(2))
        ended: Future[None] = Future()

        def restart(_deadline: Deadline) -> Operation[str]:
            yield GracePeriod(future=ended, grace_seconds=86_400, kill=lambda: ended)
            return ""

        changes = [
            asyncio.create_task(operations.change(WorkerPool.CHANGE, bot, restart, Deadline(), starts=lambda: True))
            for bot in ("a", "b")
        ]
        await asyncio.sleep(0)
        start = operations.change(WorkerPool.CHANGE, "c", lambda _: "started", Deadline(30), starts=lambda: True)
        assert "started" == await start
        ended.set_result(None)
        await asyncio.gather(*changes)
        operations.close()

    asyncio.run(scenario())


@virtual
async def test_if_nothing_tells_whether_bots_are_ready_a_place_ends_with_the_start() -> None:
    starts = Starts(1)
    for number in range(3):
        (await starts.admit(f"bot {number}", Deadline())).ended(started=True)
    assert 0 == now()


async def waits(starts: Starts, bot_id: str, seconds: float | None = None) -> asyncio.Task[Place]:
    """A start that waits for its place."""
    task = asyncio.create_task(starts.admit(bot_id, Deadline(seconds)))
    await asyncio.sleep(0)
    return task


@virtual
async def test_the_wait_ends_at_the_callers_deadline_and_the_queue_goes_on() -> None:
    starts = Starts(1)
    first = await starts.admit("a", Deadline())
    late, next_one = await waits(starts, "b", 5), await waits(starts, "c")
    assert 2 == starts.waiting
    with pytest.raises(CapacityExceededError, match="--start-concurrency"):
        await late
    assert 1 == starts.waiting
    first.release()
    await next_one
    assert 0 == starts.waiting


@virtual
async def test_a_caller_that_gives_up_leaves_the_queue_also_at_the_moment_of_its_admission() -> None:
    starts = Starts(1)
    first = await starts.admit("a", Deadline())
    gone, admitted, next_one = [await waits(starts, bot_id) for bot_id in "bcd"]
    gone.cancel()
    await asyncio.sleep(0)
    first.release()
    admitted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admitted
    await next_one
    assert (0, 0) == (starts.waiting, now())


@virtual
async def test_a_later_call_that_ends_the_bot_ends_the_wait_of_its_start() -> None:
    starts = Starts(1)
    first = await starts.admit("a", Deadline())
    withdrawn, other = await waits(starts, "b"), await waits(starts, "c")
    starts.withdraw("b")
    with pytest.raises(OperationInProgressError, match="a later call that ends the bot"):
        await withdrawn
    first.release()
    await other


@virtual
async def test_a_bot_that_cannot_be_looked_at_gives_up_its_place() -> None:
    starts = Starts(1)

    async def away(_bot_id: str) -> None:
        raise EngineUnavailableError("the engine is away")

    starts.has_started = away
    (await starts.admit("a", Deadline())).ended(started=True)
    await starts.admit("b", Deadline())
    assert 0 == now()


@virtual
async def test_a_start_that_an_upgrade_has_to_make_gives_way_to_no_later_call() -> None:
    starts = Starts(1)
    first = await starts.admit("a", Deadline())
    kept = asyncio.create_task(starts.admit("b", Deadline(), gives_way=False, is_overtaken=True))
    await asyncio.sleep(0)
    starts.withdraw("b")
    first.release()
    await kept


@pytest.mark.parametrize("free", [False, True])
def test_a_start_behind_another_change_gives_way_to_a_later_stop_when_its_turn_comes(free: bool) -> None:
    """Unless there is a place for it: then the stop does not wait for long."""

    async def scenario() -> None:
        starts = Starts(1)
        operations = BotOperations(1, starts=starts)
        if not free:
            await starts.admit("another bot", Deadline())
        gate = threading.Event()

        def submit(work: Callable[[Deadline], Any], **how: Any) -> asyncio.Task[Any]:
            return asyncio.create_task(operations.change(WorkerPool.CHANGE, "bot", work, Deadline(), **how))

        first = submit(lambda _: gate.wait(10))
        start = submit(lambda _: "started", starts=lambda: True)
        stop = submit(lambda _: "stopped", grace_seconds=10)
        await asyncio.sleep(0)
        gate.set()
        ends = await asyncio.wait_for(asyncio.gather(first, start, stop, return_exceptions=True), 10)
        assert free is (ends[1] == "started")
        assert free is not isinstance(ends[1], OperationInProgressError)
        assert "stopped" == ends[2]
        operations.close()

    asyncio.run(scenario())
