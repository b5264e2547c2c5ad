"""Bringing single containers of the view up to date, by inspecting them.

Whoever knows or suspects a change touches the container, by its id, or by its bot where the id is not known. Each key
is inspected by one task at a time; a touch while that is under way leads to another inspection, so that the last one
always began after the last touch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from container_manager.model import ContainerState, ContainerStatus
from container_manager.validation import is_bot_id
from container_manager.view.live_view import LiveView

# Events come in bursts: a stop is up to five. The burst is waited for, then looked at once.
BURST_SECONDS = 0.01
_INSPECTIONS_AT_ONCE = 16
# The engine does not announce how these end, or not every time.
_PASSING_STATES = (ContainerState.RESTARTING, ContainerState.REMOVING, None)
_FIRST_LOOK_SECONDS = 0.1
_LAST_LOOK_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where containers are inspected. Errors are the domain's."""

    async def list(self, container_id: str = "") -> list[ContainerStatus]:
        """What a list says of all managed containers, or of one."""

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        """How a managed container is now; ``None`` when it is gone."""

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        """How the bot's container is now; ``None`` when it has none."""


class Refresher:
    """Inspects what was touched, and applies it to the view."""

    def __init__(self, view: LiveView, source: Source) -> None:
        self._view = view
        self._source = source
        self._limit = asyncio.Semaphore(_INSPECTIONS_AT_ONCE)
        self._jobs: dict[str, _Job] = {}
        self._looks: dict[str, asyncio.TimerHandle] = {}
        self._delays: dict[str, float] = {}
        # What an inspection has to have begun after to be believed again, by the view's clock.
        self._doubted: dict[str, int] = {}
        # Ids of the removed, until no inspection that could bring them back is under way.
        self._gone: set[str] = set()

    def touch(self, key: str, *, hurry: bool = True) -> None:
        """Have a container inspected, by its id or its bot's; without ``hurry`` once the burst of events is over."""
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job()
            job.task = asyncio.get_running_loop().create_task(self._run(key, job))
        job.touched = self._view.tick()
        if hurry:
            job.hurry()

    def gone(self, container_id: str) -> None:
        """The engine says that a container does not exist any more; ids never come back."""
        if self._jobs:
            self._gone.add(container_id)
        self._view.remove(container_id)
        self._doubted.pop(container_id, None)
        self._stop_looking(container_id)

    async def settled(self, keys: Iterable[str]) -> None:
        """Wait until these are as new as their last touch, or have turned out not to be inspectable."""
        if rounds := [job.next_round() for key in keys if (job := self._jobs.get(key)) is not None]:
            await asyncio.wait(rounds)

    async def settled_bot(self, bot_id: str) -> None:
        """As :meth:`settled`, for a bot: by its name first, then by what the view took for its container."""
        await self.settled((bot_id,))
        entry = self._view.of_bot(bot_id)
        if entry is not None:
            await self.settled((entry.status.container_id,))

    def doubt_unsettled(self, bot_id: str) -> None:
        """Have a bot not answered for until what was touched of it has been inspected since."""
        entry = self._view.of_bot(bot_id)
        for key in (bot_id, bot_id if entry is None else entry.status.container_id):
            if (job := self._jobs.get(key)) is not None:
                self._view.doubts.add(key)
                self._doubted[key] = max(job.touched, self._doubted.get(key, 0))

    def knows(self, container_id: str) -> bool:
        """Whether a container is in the view, or about to be."""
        return container_id in self._view or container_id in self._jobs

    def pending(self) -> list[str]:
        """What has been touched and not been inspected since."""
        return list(self._jobs)

    async def close(self) -> None:
        """Inspect nothing any more."""
        for handle in self._looks.values():
            handle.cancel()
        self._looks.clear()
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str, job: _Job) -> None:
        try:
            while True:
                await job.burst()
                if self._known_since(key, job.touched):
                    self._trust(key, self._view.tick())
                    return
                async with self._limit:
                    began = self._view.tick()
                    job.begin_round()
                    done = await self._inspect(key, began)
                if not done:
                    job.repeat_round()
                    continue
                job.end_round()
                if began > job.touched:
                    return
        finally:
            del self._jobs[key]
            job.end()
            if not self._jobs:
                self._gone.clear()

    def _known_since(self, key: str, touched: int) -> bool:
        """Whether an inspection under another key, begun after the touch, has made this one needless."""
        entry = self._view.get(key)
        return key in self._gone or (entry is not None and entry.began > touched and not entry.partial)

    async def _inspect(self, key: str, began: int) -> bool:
        """Inspect and apply; False: look again."""
        by_bot = is_bot_id(key)
        try:
            status = await (self._source.inspect_bot(key) if by_bot else self._source.inspect(key))
            if status is None:
                self._missing(key, began, by_bot=by_bot)
                return True
            return status.container_id in self._gone or self._apply(key, status, began)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the container is not answered for
            await self._doubt(key, exc)
            return True

    def _missing(self, key: str, began: int, *, by_bot: bool) -> None:
        self._trust(key, began)
        self._stop_looking(key)
        if not by_bot:
            self.gone(key)
        elif (entry := self._view.of_bot(key)) is not None:
            # Removed or renamed, which its id will tell.
            self.touch(entry.status.container_id)

    def _apply(self, key: str, status: ContainerStatus, began: int) -> bool:
        container_id = status.container_id
        former, before = self._view.of_bot(key), self._view.get(container_id)
        version = None if before is None else before.version
        if not self._view.apply(status, began):
            return False
        self._trust(key, began)
        self._trust(container_id, began)
        if former is not None and former.status.container_id != container_id:
            self.touch(former.status.container_id)
        now = self._view.get(container_id)
        if key != container_id or status.state not in _PASSING_STATES or (now and now.version != version):
            self._stop_looking(key)
            if container_id not in self._view.doubts:
                self._stop_looking(container_id)
        if status.state in _PASSING_STATES:
            self._look_later(container_id, _FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS)
        return True

    async def _doubt(self, key: str, exc: Exception) -> None:
        """What cannot be inspected is not answered for; the list shows what the engine's list says of it."""
        if key in self._gone:
            return
        if key not in self._view.doubts:
            _log.warning("%s cannot be inspected; trying again: %r", key, exc)
        self._view.doubts.add(key)
        self._doubted[key] = self._view.tick()
        self._look_later(key, _FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        if is_bot_id(key):
            return
        began = self._view.tick()
        # Where the list fails too, the engine itself is in trouble, which the synchronizer sees.
        with suppress(Exception):
            for row in await self._source.list(key):
                if row.container_id == key and key not in self._gone:
                    self._view.apply(self._completed(row), began, partial=True)

    def _completed(self, row: ContainerStatus) -> ContainerStatus:
        """What is known of a container, where the list does not say that it is not so any more: the list says less."""
        entry = self._view.get(row.container_id)
        if entry is None or (entry.status.state, entry.status.name) != (row.state, row.name):
            return row
        return entry.status

    def _trust(self, key: str, began: int) -> None:
        if began > self._doubted.get(key, 0):
            self._view.doubts.discard(key)
            self._doubted.pop(key, None)

    def _look_later(self, key: str, first: float, last: float) -> None:
        """Touch it later, and later each time."""
        delay = self._delays.get(key, first)
        self._stop_looking(key)
        self._delays[key] = min(delay * 2, last)
        self._looks[key] = asyncio.get_running_loop().call_later(delay, self._look, key)

    def _look(self, key: str) -> None:
        self._looks.pop(key, None)
        self.touch(key)

    def _stop_looking(self, key: str) -> None:
        self._delays.pop(key, None)
        if (handle := self._looks.pop(key, None)) is not None:
            handle.cancel()


class _Job:
    """The inspections of one key, as long as they are needed: rounds, each with those who wait for it."""

    def __init__(self) -> None:
        self.touched = 0
        """The view's clock at the last touch."""
        self.task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []

    def hurry(self) -> None:
        """Leave out the rest of the burst."""
        self._hurry.set()

    def next_round(self) -> asyncio.Future[None]:
        """Done when the next inspection to begin has ended."""
        self.hurry()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    async def burst(self) -> None:
        """Wait for the rest of a burst of events, unless somebody is in a hurry."""
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(BURST_SECONDS):
                    await self._hurry.wait()
        self._hurry.clear()

    def begin_round(self) -> None:
        """The inspection begins that those who wait by now wait for."""
        self._served, self._waiting = self._waiting, []

    def repeat_round(self) -> None:
        """It said nothing; they wait for the next one, which is to begin at once."""
        self._waiting, self._served = self._served + self._waiting, []
        self.hurry()

    def end_round(self) -> None:
        """It has been applied."""
        for waiter in self._served:
            if not waiter.done():
                waiter.set_result(None)
        self._served = []

    def end(self) -> None:
        """There will be no further round."""
        self._served += self._waiting
        self.end_round()
