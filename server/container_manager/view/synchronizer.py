"""Follows the engine: subscribes to its events, lists, then inspects; again after each loss."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable

from container_manager.backend import Notice, Source
from container_manager.errors import ContainerManagerError, EngineUnavailableError, reason_of
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 1.0
# Thousands of tasks at once would enlarge the process for good, and hold up the event loop.
_COMPARED_AT_ONCE = 128
# Handle so many before others get their turn: the notices of many stops that end together arrive at once.
_NOTICES_AT_ONCE = 25
# Events of this long before the engine last answered may not have arrived.
_LATE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Synchronizer:
    """Keeps the view in sync for as long as :meth:`run` runs."""

    def __init__(
        self,
        view: LiveView,
        source: Source,
        refresher: Refresher,
        on_event: Callable[[str, int], None] | None = None,
    ) -> None:
        """``on_event`` receives the container id and the time, on the engine's clock, of each new event."""
        self._on_event = on_event
        self._view = view
        self._source = source
        self._refresher = refresher
        self.problem: ContainerManagerError | None = None
        """Why the last attempt to follow the engine failed; ``None`` if it succeeded, and before the first attempt."""
        self.following = False
        """Subscribed to the engine's events, so in sync or about to be."""
        self.subscriptions = 0
        """How often it has subscribed."""
        self._dropped = asyncio.Event()
        # Set when the view is in sync or there is a problem.
        self._decided = asyncio.Event()
        # Whether the last attempt reached sync, and whether it failed while reading.
        self._was_in_sync = False
        self._read_failed = False
        # When the engine last answered while the view was in sync, on the loop's clock.
        self._answered = -math.inf
        # What has been logged about the loss of the engine since the view was last in sync.
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Follow the engine until cancelled. Then the view is out of sync."""
        try:
            await self._run()
        finally:
            self._view.lose()

    async def _run(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            unexpected: Exception | None = None
            try:
                await self._follow()
            except ContainerManagerError as exc:
                self.problem = exc
            except Exception as exc:  # noqa: BLE001 - without this task every read would go to the engine for good
                self.problem, unexpected = (
                    ContainerManagerError(f"following the engine failed: {type(exc).__name__}"),
                    exc,
                )
            self._decided.set()
            self._warn(unexpected)
            if self._was_in_sync:
                delay = _FIRST_RETRY_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    def _warn(self, unexpected: Exception | None) -> None:
        """Log why the engine is not followed, once and not at every attempt."""
        if unexpected is not None and "unexpected" not in self._warned:
            self._warned.add("unexpected")
            _log.error("unexpected error: following the engine failed", exc_info=unexpected)
        reason = "none" if self.problem is None else reason_of(self.problem)
        if self._was_in_sync:
            _log.warning("the engine's events are lost, reads go to the engine itself: %s", reason)
        elif "problem" not in self._warned:
            _log.warning("the engine cannot be followed, reads go to the engine itself: %s", reason)
        self._warned.add("problem")

    async def in_sync(self) -> None:
        """Wait until the view is in sync. Raises the problem if there is one."""
        while not self._view.in_sync:
            if self.problem is not None:
                # All callers share this exception; with a traceback it would keep the frames of each of them.
                raise self.problem.with_traceback(None)
            await self._decided.wait()

    def answered(self) -> None:
        """The engine answers."""
        if self._view.in_sync:
            self._answered = asyncio.get_running_loop().time()

    def drop(self) -> None:
        """Give up the event stream, although it has not ended, and start again."""
        self._dropped.set()

    async def _follow(self) -> None:
        read_failed, self._read_failed, self._was_in_sync = self._read_failed, False, False
        async with self._source.subscribe() as notices:
            self.following = True
            self.subscriptions += 1
            # Callers wait for an engine that is back, unless the last attempt to read it failed.
            if not read_failed:
                self.problem = None
                self._decided.clear()
            tasks = [asyncio.create_task(self._read(notices)), asyncio.create_task(self._compare())]
            reading, comparing = tasks
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    await comparing
                    # Everything has just been read, so an earlier doubt no longer applies.
                    self._dropped.clear()
                    self._was_in_sync = True
                    self._warned.clear()
                    self.problem = None
                    self._view.regain()
                    self.answered()
                    self._decided.set()
                    _log.info("following the engine's events, %d containers", len(self._view))
                    tasks.append(asyncio.create_task(self._until_dropped()))
                    await asyncio.wait({reading, tasks[-1]}, return_when=asyncio.FIRST_COMPLETED)
                await (reading if reading.done() else tasks[-1])
            finally:
                # Before anything else: no event is received from now on.
                self._view.lose()
                self._decided.clear()
                self.following = False
                self._read_failed = not self._was_in_sync
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_dropped(self) -> None:
        await self._dropped.wait()
        raise EngineUnavailableError("the engine does not answer")

    async def _read(self, notices: AsyncIterator[Notice]) -> None:
        since_ns = time.time_ns()
        handled = 0
        async for notice in notices:
            handled += 1
            if handled % _NOTICES_AT_ONCE == 0:
                await asyncio.sleep(0)
            # Earlier events are repeated or were missed.
            is_new = notice.time_ns >= since_ns and notice.container_id in self._view
            if is_new and self._on_event is not None:
                self._on_event(notice.container_id, notice.time_ns)
            if notice.gone:
                self._refresher.gone(notice.container_id)
            elif notice.created and notice.managed:
                self._refresher.appeared(notice.container_id)
            elif notice.managed or self._refresher.knows(notice.container_id):
                self._refresher.touch(notice.container_id, hurry=False, same_name=not notice.renamed)

    async def _compare(self) -> None:
        """Inspect every container that is listed, is in the view, or could not be inspected, in steps.

        Those that have run since before the events were lost need no inspection.
        """
        began = self._view.tick()
        rows = {row.status.container_id: row for row in await self._source.list()}
        changed_seconds = asyncio.get_running_loop().time() - self._answered + _LATE_SECONDS
        keys = list(rows.keys() | self._view.ids() | self._view.doubts)
        for first in range(0, len(keys), _COMPARED_AT_ONCE):
            batch = []
            for key in keys[first : first + _COMPARED_AT_ONCE]:
                if key not in rows or not self._refresher.confirm(rows[key], began, changed_seconds):
                    self._refresher.touch(key)
                    batch.append(key)
            await self._refresher.settled(batch)
            await asyncio.sleep(0)
        # Also wait for keys touched meanwhile, such as by our own operations.
        await self._refresher.settled(self._refresher.pending())
