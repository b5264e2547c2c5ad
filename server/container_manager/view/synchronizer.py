"""Following the engine: subscribe to its events, then list, then inspect; again whenever it was lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

from container_manager.backend import Notice, Source
from container_manager.errors import ContainerManagerError, EngineUnavailableError
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 1.0
# A task for each of thousands at once would leave the process as large as it was then.
_COMPARED_AT_ONCE = 128

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
        """``on_event`` is told of each event that is new: of which container, and when on the engine's clock."""
        self._on_event = on_event
        self._view = view
        self._source = source
        self._refresher = refresher
        self.problem: ContainerManagerError | None = None
        """Why the engine could not be followed at the last attempt; ``None`` when it is, and before the first."""
        self.following = False
        """Subscribed to the engine's events, and so in sync or about to be."""
        self.subscriptions = 0
        """How often it has subscribed so far."""
        self._dropped = asyncio.Event()
        # Either in sync, or there is a problem: nothing to wait for.
        self._decided = asyncio.Event()
        # Of the last attempt: whether it got so far, and whether it began to read and failed in that.
        self._was_in_sync = False
        self._read_failed = False
        # What the log has been told of the engine not being followed, since it was last.
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Follow until cancelled; from then on the view is not believed."""
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
        """Tell why the engine is not followed; once, and not at every attempt."""
        if unexpected is not None and "unexpected" not in self._warned:
            self._warned.add("unexpected")
            _log.error("unexpected error: following the engine failed", exc_info=unexpected)
        if self._was_in_sync:
            _log.warning("the engine's events are lost, reads go to the engine itself: %s", self.problem)
        elif "problem" not in self._warned:
            _log.warning("the engine cannot be followed, reads go to the engine itself: %s", self.problem)
        self._warned.add("problem")

    async def in_sync(self) -> None:
        """Wait until the view is in sync. Raises why it is not, if that is not just for a moment."""
        while not self._view.in_sync:
            if self.problem is not None:
                # One and the same for all who ask: it would keep the frames of every one of them.
                raise self.problem.with_traceback(None)
            await self._decided.wait()

    def drop(self) -> None:
        """Believe the event stream no more, though it has not ended, and begin anew."""
        self._dropped.set()

    async def _follow(self) -> None:
        read_failed, self._read_failed, self._was_in_sync = self._read_failed, False, False
        async with self._source.subscribe() as notices:
            self.following = True
            self.subscriptions += 1
            # An engine that is found again is worth waiting for, unless it is one that cannot be read.
            if not read_failed:
                self.problem = None
                self._decided.clear()
            tasks = [asyncio.create_task(self._read(notices)), asyncio.create_task(self._compare())]
            reading, comparing = tasks
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    await comparing
                    # Whatever was doubtful before has just been read.
                    self._dropped.clear()
                    self._was_in_sync = True
                    self._warned.clear()
                    self.problem = None
                    self._view.regain()
                    self._decided.set()
                    _log.info("following the engine's events, %d containers", len(self._view))
                    tasks.append(asyncio.create_task(self._until_dropped()))
                    await asyncio.wait({reading, tasks[-1]}, return_when=asyncio.FIRST_COMPLETED)
                await (reading if reading.done() else tasks[-1])
            finally:
                # At once: what is told from now on is heard by nobody.
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
        async for notice in notices:
            # What happened before comes once more, or was missed.
            is_new = notice.time_ns >= since_ns and notice.container_id in self._view
            if is_new and self._on_event is not None:
                self._on_event(notice.container_id, notice.time_ns)
            if notice.gone:
                self._refresher.gone(notice.container_id)
            elif notice.created and notice.managed:
                self._refresher.appeared(notice.container_id)
            elif notice.managed or self._refresher.knows(notice.container_id):
                self._refresher.touch(notice.container_id, hurry=False)

    async def _compare(self) -> None:
        """Inspect everything that there is, or was, or that could not be inspected."""
        found = {status.container_id for status in await self._source.list()}
        keys = list(found | self._view.ids() | self._view.doubts)
        for first in range(0, len(keys), _COMPARED_AT_ONCE):
            batch = keys[first : first + _COMPARED_AT_ONCE]
            for key in batch:
                self._refresher.touch(key)
            await self._refresher.settled(batch)
        # With them whatever else was touched meanwhile, such as by operations of our own.
        await self._refresher.settled(self._refresher.pending())
