"""Following the engine: subscribe to its events, then list, then inspect; again whenever it was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from container_manager.engine.container_source import Notice
from container_manager.errors import ContainerManagerError, EngineUnavailableError
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher, Source

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 1.0
# A task for each of thousands at once would leave the process as large as it was then.
_COMPARED_AT_ONCE = 128

_log = logging.getLogger(__name__)


class NoticeSource(Source, Protocol):
    """A source that also tells of changes."""

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Notices from a little before now on; raises when the engine is lost."""


class Synchronizer:
    """Keeps the view in sync for as long as :meth:`run` runs."""

    def __init__(self, view: LiveView, source: NoticeSource, refresher: Refresher) -> None:
        self._view = view
        self._source = source
        self._refresher = refresher
        self.problem: ContainerManagerError | None = None
        """Why the view was not in sync at the last attempt; ``None`` when it was, or before the first."""
        self.following = False
        """Subscribed to the engine's events, and so in sync or about to be."""
        self._dropped = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled; from then on the view is not believed."""
        try:
            await self._run()
        finally:
            self._view.lose()

    async def _run(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._follow()
            except ContainerManagerError as exc:
                self.problem = exc
            except Exception as exc:  # noqa: BLE001 - without this task every read would go to the engine for good
                _log.exception("a bug: following the engine failed unexpectedly")
                self.problem = ContainerManagerError(f"following the engine failed: {type(exc).__name__}")
            if self._view.in_sync:
                _log.warning("the engine's events are lost, reads go to the engine itself: %s", self.problem)
                delay = _FIRST_RETRY_SECONDS
            self._view.lose()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY_SECONDS)

    def drop(self) -> None:
        """Believe the event stream no more, though it has not ended, and begin anew."""
        self._dropped.set()

    async def _follow(self) -> None:
        async with self._source.subscribe() as notices:
            self.following = True
            tasks = [asyncio.create_task(self._read(notices)), asyncio.create_task(self._compare())]
            reading, comparing = tasks
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    await comparing
                    # Whatever was doubtful before has just been read.
                    self._dropped.clear()
                    self.problem = None
                    self._view.regain()
                    _log.info("following the engine's events, %d containers", len(self._view))
                    tasks.append(asyncio.create_task(self._until_dropped()))
                    await asyncio.wait({reading, tasks[-1]}, return_when=asyncio.FIRST_COMPLETED)
                await (reading if reading.done() else tasks[-1])
            finally:
                self.following = False
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_dropped(self) -> None:
        await self._dropped.wait()
        raise EngineUnavailableError("the engine does not answer")

    async def _read(self, notices: AsyncIterator[Notice]) -> None:
        async for notice in notices:
            if notice.gone:
                self._refresher.gone(notice.container_id)
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
