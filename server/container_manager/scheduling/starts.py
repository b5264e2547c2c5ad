"""Which bots may start: few at once, in the order in which they were asked for.

A bot that starts takes all the CPU that it gets. Six of them on two cores take so long that none is ready within
minutes, while two at a time are all ready soon. So a start holds a place until its bot is ready, has ended, or has had
its time. It lends the place to others while it waits long for what takes no CPU: a grace period before it, or an image.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakValueDictionary

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, ContainerManagerError, OperationInProgressError

PLACE_SECONDS = 120.0
"""How long a start holds its place at most: a bot that never gets ready does not hold up others for ever."""

LEND_SECONDS = 5.0
"""After so long a wait a start lends its place. In shorter ones it keeps it: bots that are restarted together do not
all stop at once, and then all start at once."""

HasStarted = Callable[[str], Awaitable[None]]
"""Waits until a bot, whose container has been started, no longer takes much CPU for it."""

_log = logging.getLogger(__name__)


class Starts:
    """The places of one server, on its event loop."""

    def __init__(self, at_once: int) -> None:
        self.has_started: HasStarted | None = None
        """``None``: a place is free as soon as the container has been started."""
        self._free = at_once
        self._queue: deque[_Waiting] = deque()
        # By bot: the place of its last start, while anybody has it.
        self._places: WeakValueDictionary[str, Place] = WeakValueDictionary()
        # By bot: what holds the place of a start that has ended.
        self._holding: dict[str, tuple[asyncio.Task[None], Place]] = {}

    @property
    def waiting(self) -> int:
        """How many starts wait for a place."""
        return len(self._queue)

    async def admit(
        self, bot_id: str, deadline: Deadline, *, gives_way: bool = True, is_overtaken: bool = False
    ) -> Place:
        """Wait for a place, first come, first served; a bot's next start takes the one that the bot still holds.

        ``gives_way``: :meth:`withdraw` ends the wait. False for a start that an upgrade, a backup or a restore has to
        make. ``is_overtaken``: what :meth:`withdraw` announces has come before this call.

        Raises :class:`CapacityExceededError` at the deadline, and :class:`OperationInProgressError` where it gives way.
        """
        task, place = self._holding.pop(bot_id, (None, None))
        if task is not None and place is not None and place.hand_on():
            task.cancel()
        elif self._free > 0:
            self._take()
        elif gives_way and is_overtaken:
            raise _withdrawn(bot_id)
        else:
            await self._wait(_Waiting(bot_id, gives_way), deadline)
        taken = self._places[bot_id] = Place(self._take, self._release, partial(self._hold, bot_id))
        return taken

    @contextmanager
    def lent(self, bot_id: str) -> Iterator[None]:
        """A wait that takes no CPU, of an operation that may hold a place for the bot.

        The place comes back at its end, also while others have all of them.
        """
        place = self._places.get(bot_id)
        if place is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(LEND_SECONDS, place.lend)
        try:
            yield
        finally:
            timer.cancel()
            place.take_back()

    def withdraw(self, bot_id: str) -> None:
        """A later call is to end the bot: its start need not wait any more, nor does that call wait for it."""
        for waiting in self._queue:
            if waiting.bot_id == bot_id and waiting.gives_way and not waiting.admitted.done():
                waiting.admitted.set_exception(_withdrawn(bot_id))

    def close(self) -> None:
        """Stop looking at bots that have been started."""
        for task, _ in self._holding.values():
            task.cancel()

    def _hold(self, bot_id: str, place: Place) -> None:
        task = asyncio.create_task(self._until_started(bot_id, place))
        self._holding[bot_id] = task, place

    async def _until_started(self, bot_id: str, place: Place) -> None:
        try:
            if self.has_started is not None:
                await self.has_started(bot_id)
        except ContainerManagerError as exc:
            _log.info("bot %s is not looked at while it starts: %s", bot_id, exc.reason)
        finally:
            place.release()
            if self._holding.get(bot_id, (None, None))[1] is place:
                del self._holding[bot_id]

    async def _wait(self, waiting: _Waiting, deadline: Deadline) -> None:
        self._queue.append(waiting)
        try:
            async with asyncio.timeout(deadline.remaining()) as scope:
                await waiting.admitted
        except TimeoutError:
            if not scope.expired():
                raise
            self._pass_on(waiting)
            raise CapacityExceededError(
                "other bots were still starting at the call's deadline, as many as --start-concurrency allows; "
                "try again later, or with a longer deadline",
                bot_id=waiting.bot_id,
            ) from None
        except BaseException:
            self._pass_on(waiting)
            raise
        finally:
            if waiting in self._queue:
                self._queue.remove(waiting)

    def _pass_on(self, waiting: _Waiting) -> None:
        """It was given a place at the moment when its caller gave up."""
        if waiting.admitted.done() and not waiting.admitted.cancelled() and waiting.admitted.exception() is None:
            self._release()

    def _take(self) -> None:
        self._free -= 1

    def _release(self) -> None:
        # Fewer than none: some were lent, and have come back.
        while self._queue and self._free >= 0:
            waiting = self._queue.popleft()
            if not waiting.admitted.done():
                waiting.admitted.set_result(None)
                return
        self._free += 1


class Place:
    """A place that a start holds. It ends by itself after :data:`PLACE_SECONDS`, not counting when it is lent."""

    def __init__(self, take: Callable[[], None], release: Callable[[], None], hold: Callable[[Place], None]) -> None:
        self._take = take
        self._release: Callable[[], None] | None = release
        self._hold = hold
        self._is_lent = False
        self._set_timer()

    @property
    def is_held(self) -> bool:
        """Whether it has not been given up; from any thread."""
        return self._release is not None

    def ended(self, *, started: bool) -> None:
        """The start has ended. If it has started the bot, the place is held until that is ready."""
        if started:
            self._hold(self)
        else:
            self.release()

    def lend(self) -> None:
        """Let another start go ahead until :meth:`take_back`."""
        if self._release is not None and not self._is_lent:
            self._is_lent = True
            self._timer.cancel()
            self._release()

    def take_back(self) -> None:
        """Have the place again."""
        if self._release is not None and self._is_lent:
            self._is_lent = False
            self._take()
            self._set_timer()

    def release(self) -> None:
        """Let the next start go ahead."""
        if (release := self._end()) is not None:
            release()

    def hand_on(self) -> bool:
        """Leave the place to another start of the bot; ``False``: it is no longer held."""
        return self._end() is not None

    def _end(self) -> Callable[[], None] | None:
        release, self._release = self._release, None
        self._timer.cancel()
        return None if self._is_lent else release

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PLACE_SECONDS, self.release)


class _Waiting:
    def __init__(self, bot_id: str, gives_way: bool) -> None:
        self.bot_id = bot_id
        self.gives_way = gives_way
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def _withdrawn(bot_id: str) -> OperationInProgressError:
    return OperationInProgressError(
        "a later call that ends the bot came before the start had its place among those of other bots", bot_id=bot_id
    )
