"""Grace periods that run, and the calls that wait behind them: a shorter grace period ends a longer one early.

Calls that are certain to end the bot also end the waits of operations that have changed nothing yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple

from container_manager.errors import ContainerManagerError, OperationInProgressError, reason_of
from container_manager.operation import GracePeriod, Wait
from container_manager.scheduling.operation_parts import end_of

_RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class GracePeriods:
    """The grace periods of all bots, on one event loop.

    A waiting call that has a grace period of its own ends the running one when its own would end, counted from when
    both exist. It never prolongs one. When it gives up, it has no effect any more. A kill that fails is repeated while
    a call waits.
    """

    def __init__(self) -> None:
        # By bot: those that have a grace period.
        self._waiting: defaultdict[str, dict[object, _Waiting]] = defaultdict(dict)
        self._running: dict[str, _Running] = {}
        self._giving_way: dict[str, asyncio.Event] = {}

    def __len__(self) -> int:
        """How many bots have a grace period under way, or calls that wait behind one."""
        return len(self._waiting.keys() | self._running.keys())

    def is_awaited(self, bot_id: str) -> bool:
        """Whether a call waits for the bot's turn that ends the waits of operations which give way."""
        return any(each.ends_waits for each in self._waiting.get(bot_id, {}).values())

    async def unless_awaited(self, bot_id: str, wait: Wait) -> OperationInProgressError | None:
        """Wait for an operation that has the bot's turn and gives way: returns its error if a call waits for that."""
        woken = self._giving_way[bot_id] = asyncio.Event()
        try:
            if not self.is_awaited(bot_id):
                await end_of(wait, woken)
        finally:
            del self._giving_way[bot_id]
        if not self.is_awaited(bot_id):
            return None
        return OperationInProgressError(
            "a later call that ends the bot came before this operation had changed anything; it was not carried out",
            bot_id=bot_id,
        )

    async def before_begin(self, bot_id: str, job: Future[Any]) -> OperationInProgressError | None:
        """Wait for the end of a job of an operation that gives way.

        If a call waits for the turn and no worker has begun the job, returns the operation's error: it never runs then.
        """
        while not job.done():
            overtaken = await self.unless_awaited(bot_id, Wait(future=job))
            if overtaken is not None:
                return overtaken if not job.cancelled() and job.cancel() else None
        return None

    @contextmanager
    def waiting(self, bot_id: str, grace_seconds: float | None, *, ends_waits: bool = True) -> Iterator[None]:
        """A call waits for the bot's turn in this context; ``None``: it has no grace period.

        ``ends_waits``: it also ends the waits of operations that give way.
        """
        if grace_seconds is None:
            yield
            return
        call = object()
        self._waiting[bot_id][call] = _Waiting(_now(), grace_seconds, ends_waits)
        self._reschedule(bot_id)
        if ends_waits and bot_id in self._giving_way:
            self._giving_way[bot_id].set()
        try:
            yield
        finally:
            del self._waiting[bot_id][call]
            if not self._waiting[bot_id]:
                del self._waiting[bot_id]
            self._reschedule(bot_id)

    async def run(self, bot_id: str, period: GracePeriod, end: Awaitable[object]) -> None:
        """Wait for ``end``, the end of the bot's grace period, and end it early if a waiting call asks for that."""
        running = self._running[bot_id] = _Running(period, lambda: self._reschedule(bot_id))
        self._reschedule(bot_id)
        try:
            await end
        finally:
            del self._running[bot_id]
            running.kill_at(None)
        if running.kill is not None:
            # It must not reach what the bot's next operation starts.
            await asyncio.wait({running.kill})

    def _reschedule(self, bot_id: str) -> None:
        running = self._running.get(bot_id)
        if running is None:
            return
        waiting = [each for each in self._waiting.get(bot_id, {}).values() if each.ends_waits or not running.gives_way]
        ends = min((max(each.came, running.began) + each.seconds for each in waiting), default=running.ends)
        running.kill_at(ends if ends < running.ends else None)


class _Waiting(NamedTuple):
    """A call that has a grace period."""

    came: float
    seconds: float
    ends_waits: bool


class _Running:
    """A grace period under way."""

    def __init__(self, period: GracePeriod, reschedule: Callable[[], None]) -> None:
        """``reschedule`` is called when a kill has failed."""
        self.began = _now()
        self.ends = self.began + period.grace_seconds
        self.gives_way = period.gives_way
        self.kill: asyncio.Future[None] | None = None
        """A kill that is under way or has succeeded."""
        self._period = period
        self._reschedule = reschedule
        self._timer: asyncio.TimerHandle | None = None
        self._failed_at: float | None = None

    def kill_at(self, when: float | None) -> None:
        """Kill at this moment of the loop's time, instead of any earlier choice; ``None``: do not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None and self.kill is None:
            if self._failed_at is not None:
                when = max(when, self._failed_at + _RETRY_SECONDS)
            self._timer = asyncio.get_running_loop().call_at(when, self._kill)

    def _kill(self) -> None:
        self._period.ended_early = True
        try:
            self.kill = asyncio.wrap_future(self._period.kill())
        except ContainerManagerError as exc:
            self._fail(exc)
        else:
            self.kill.add_done_callback(self._killed)

    def _killed(self, kill: asyncio.Future[None]) -> None:
        if not kill.cancelled() and (exc := kill.exception()):
            self._fail(exc)

    def _fail(self, exc: BaseException) -> None:
        if self._failed_at is None:
            _log.warning("a grace period could not be ended early: %s", reason_of(exc))
        self._failed_at, self.kill = _now(), None
        self._reschedule()


def _now() -> float:
    return asyncio.get_running_loop().time()
