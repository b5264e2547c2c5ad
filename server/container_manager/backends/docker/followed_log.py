"""One reading of a log that goes on with what the container writes, for as long as it can be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from container_manager.backends.docker.follow_check import FollowCheck
from container_manager.engine.log_frames import FrameDecoder
from container_manager.errors import ContainerManagerError
from container_manager.model import RawEntry

if TYPE_CHECKING:
    from container_manager.backends.docker.container_log import DockerContainerLog

# A log that falls silent though there is more does so at its begin, or else very rarely.
_FIRST_SILENCE_SECONDS = 1.0
_LAST_SILENCE_SECONDS = 30.0
# What has just been written may be on its way.
_GRACE_SECONDS = 1.0


class FollowedLog:
    """Read once, by :meth:`batches`."""

    def __init__(self, log: DockerContainerLog, since_ns: int | None, ignored_ns: int | None = None) -> None:
        """``ignored_ns``: the :attr:`unshown_ns` of the reading before, which this one won't miss again."""
        self._log = log
        self._since_ns = since_ns
        self._ignored_ns = ignored_ns
        self.broken_off = False
        """Not the engine has ended it, but this class, because something may be missing: read again."""
        self.unshown_ns: int | None = None
        """The time of an entry that is in the log, at its end, and has not come."""

    async def batches(self) -> AsyncGenerator[list[RawEntry], None]:
        """The entries, as they come; an empty list when none have come for a while. Ends when the container does.

        Raises what :class:`~container_manager.backend.ContainerLog` does.
        """
        decoder = FrameDecoder()
        check = FollowCheck(opened_ns=time.time_ns())
        silence_seconds = _FIRST_SILENCE_SECONDS
        async with self._log.opened(follow=True, since_ns=self._since_ns) as stream:
            while True:
                try:
                    async with asyncio.timeout(_GRACE_SECONDS if self.unshown_ns is not None else silence_seconds):
                        data = await stream.read()
                except TimeoutError:
                    silence_seconds = min(2 * silence_seconds, _LAST_SILENCE_SECONDS)
                    yield []
                    if await self._misses_something(check):
                        self.broken_off = True
                        return
                    continue
                self.unshown_ns = None
                batch = decoder.feed(data) if data else decoder.end()
                certain = check.trusted(batch, len(data), time.time_ns())
                if certain:
                    yield batch[:certain]
                if certain < len(batch):
                    self.broken_off = True
                    return
                if not data:
                    return

    async def _misses_something(self, check: FollowCheck) -> bool:
        """Whether the log's last entry has not come, twice."""
        # Before the first entry the engine may still be looking for it.
        if check.last_ns is None:
            return False
        try:
            last = await self._log.first_of_tail(1)
        except ContainerManagerError:
            return False  # what is wrong, this reading will soon be told too
        if last is None or last[0] in (check.last_ns, self._ignored_ns) or last[0] < (self._since_ns or 0):
            self.unshown_ns = None
            return False
        known, self.unshown_ns = self.unshown_ns, last[0]
        return known is not None
