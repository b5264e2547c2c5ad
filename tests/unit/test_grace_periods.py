"""A waiting call with a shorter grace period ends the one under way early; nothing prolongs it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import CapacityExceededError, reason_of
from container_manager.operation import GracePeriod, Wait
from container_manager.scheduling.grace_periods import GracePeriods
from tests.support.virtual_loop import now, virtual

BOT, OTHER = "bot-a", "bot-b"


class Stubborn:
    """A process that ends when it is killed, or after its grace period."""

    def __init__(self, grace_seconds: float, *failures: Exception, gives_way: bool = False) -> None:
        """``failures``: of the first kills, one each."""
        self.period = GracePeriod(grace_seconds=grace_seconds, kill=self.kill, gives_way=gives_way)
        self.kills: list[float] = []
        self._ended = asyncio.Event()
        self._failures = iter(failures)

    def kill(self) -> Future[None]:
        """Ends it, unless this one fails. Without a thread to spare, no call begins."""
        assert not self._ended.is_set(), "killed twice"
        self.kills.append(now())
        killed: Future[None] = Future()
        failure = next(self._failures, None)
        if isinstance(failure, CapacityExceededError):
            raise failure
        if failure is None:
            self._ended.set()
            killed.set_result(None)
        else:
            killed.set_exception(failure)
        return killed

    async def end(self) -> None:
        """Its end."""
        try:
            async with asyncio.timeout(self.period.grace_seconds):
                await self._ended.wait()
        except TimeoutError:
            pass


async def ended_at(periods: GracePeriods, process: Stubborn, *calls: tuple[float, float | None, float]) -> float:
    """When the process ended, counted from its stop.

    Each call: when it comes, its grace period, and how long it waits for its turn at the longest.
    """

    async def call(comes: float, grace: float | None, waits: float) -> None:
        await asyncio.sleep(comes)
        with periods.waiting(BOT, grace):
            await asyncio.sleep(waits)

    others = [asyncio.create_task(call(*each)) for each in calls]
    begun = now()
    await periods.run(BOT, process.period, process.end())
    seconds = now() - begun
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    assert 0 == len(periods)
    return seconds


DAY = 86_400.0


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [
        ([], DAY),
        ([(7, 0, DAY)], 7),
        ([(7, 5, DAY)], 12),
        ([(7, 20, DAY), (8, 5, DAY)], 13),
        ([(7, 5, DAY), (8, 20, DAY)], 12),
        ([(7, DAY, DAY)], DAY),
        ([(7, None, DAY)], DAY),
        ([(7, 5, 4)], DAY),
        ([(7, 5, 4), (8, 20, DAY)], 28),
    ],
    ids=[
        "nobody waits",
        "zero",
        "a shorter one runs",
        "the shortest of two, which came second",
        "the shortest of two, which came first",
        "a longer one prolongs nothing",
        "a call without a grace period, such as a start",
        "a call that gives up has no effect",
        "of two calls the shorter one gives up",
    ],
)
@virtual
async def test_a_grace_period_ends_with_the_shortest_of_those_who_wait(
    calls: list[tuple[float, float | None, float]], seconds: float
) -> None:
    process = Stubborn(DAY)
    assert seconds == await ended_at(GracePeriods(), process, *calls)
    assert (seconds < DAY) == process.period.ended_early == bool(process.kills)


@virtual
async def test_a_call_that_waits_already_shortens_a_period_that_begins_later_from_then_on() -> None:
    periods = GracePeriods()
    process = Stubborn(DAY)
    with periods.waiting(BOT, 5):
        await asyncio.sleep(100)
        assert 5 == await ended_at_with_waiter(periods, process)


async def ended_at_with_waiter(periods: GracePeriods, process: Stubborn) -> float:
    begun = now()
    await periods.run(BOT, process.period, process.end())
    return now() - begun


@virtual
async def test_calls_of_another_bot_shorten_nothing() -> None:
    periods = GracePeriods()
    process = Stubborn(50)
    with periods.waiting(OTHER, 0):
        assert 50 == await ended_at_with_waiter(periods, process)
    assert [] == process.kills


@virtual
async def test_a_process_that_ends_by_itself_is_not_killed_later() -> None:
    periods = GracePeriods()
    process = Stubborn(DAY)

    async def exits() -> None:
        await asyncio.sleep(1)

    with periods.waiting(BOT, 5):
        await periods.run(BOT, process.period, exits())
        await asyncio.sleep(100)
    assert [] == process.kills


FAILURES = [OSError("the engine is away"), EngineRejectedError(500, "boom"), CapacityExceededError("no thread")]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@virtual
async def test_a_kill_that_fails_is_repeated_while_a_call_waits(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    process = Stubborn(DAY, failure, failure)
    assert 9 == await ended_at(GracePeriods(), process, (7, 0, DAY), (7.5, 0, DAY))
    assert 3 == len(process.kills)
    expected = f"a grace period could not be ended early: {reason_of(failure)}"
    assert [expected] == caplog.messages


@virtual
async def test_a_kill_that_fails_is_not_repeated_for_a_call_that_has_given_up_nor_after_the_end() -> None:
    process = Stubborn(60, *[OSError("the engine is away")] * 100)
    assert 60 == await ended_at(GracePeriods(), process, (7, 0, 1.5), (59.5, 0, DAY))
    await asyncio.sleep(100)
    assert 3 == len(process.kills)


@virtual
async def test_the_period_ends_after_a_kill_under_way_so_that_it_reaches_nothing_else() -> None:
    periods = GracePeriods()
    killed: Future[None] = Future()
    period = GracePeriod(grace_seconds=DAY, kill=lambda: killed)

    async def exits() -> None:
        await asyncio.sleep(10)

    with periods.waiting(BOT, 5):
        running = asyncio.create_task(periods.run(BOT, period, exits()))
        await asyncio.sleep(100)
        assert not running.done()
        killed.set_result(None)
        await running


@virtual
async def test_a_call_that_may_leave_the_bot_as_it_is_ends_grace_periods_and_no_other_waits() -> None:
    periods = GracePeriods()
    process, program = Stubborn(DAY), Stubborn(75, gives_way=True)
    with periods.waiting(BOT, 5, ends_waits=False):
        assert not periods.is_awaited(BOT)
        assert await periods.unless_awaited(BOT, Wait(seconds=1)) is None
        assert 5 == await ended_at_with_waiter(periods, process)
        assert 75 == await ended_at_with_waiter(periods, program)
        with periods.waiting(BOT, 20):
            assert periods.is_awaited(BOT)
            assert await periods.unless_awaited(BOT, Wait(seconds=1)) is not None
            assert 20 == await ended_at_with_waiter(periods, Stubborn(75, gives_way=True))
