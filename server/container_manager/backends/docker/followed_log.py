"""Follows a container's log once, for as long as the result is known to be complete."""

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

# An engine that stops sending though there is more does so right at the start, or else very rarely.
_FIRST_SILENCE_SECONDS = 1.0
_LAST_SILENCE_SECONDS = 30.0
# New entries may be on their way.
_GRACE_SECONDS = 1.0


class FollowedLog:
    """One reading; iterate :meth:`batches` once."""

    def __init__(self, log: DockerContainerLog, since_ns: int | None, ignored_ns: int | None = None) -> None:
        """``ignored_ns``: the :attr:`unshown_ns` of the previous reading; this one does not wait for that entry."""
        self._log = log
        self._since_ns = since_ns
        self._ignored_ns = ignored_ns
        self.broken_off = False
        """The reading ended because entries may be missing, not because the engine ended it: read again."""
        self.unshown_ns: int | None = None
        """The time of the log's last entry if the engine has not sent that entry."""

    async def batches(self) -> AsyncGenerator[list[RawEntry], None]:
        """The entries, as they arrive; an empty list when none have arrived for a while. Ends with the container.

        Raises the errors of :class:`~container_manager.backend.ContainerLog`.
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
                batch = await decoder.feed(data)
                certain = check.trusted(batch, len(data), time.time_ns())
                if certain:
                    yield batch[:certain]
                if certain < len(batch):
                    self.broken_off = True
                    return
                if decoder.problem is not None:
                    raise decoder.problem
                if not data:
                    return

    async def _misses_something(self, check: FollowCheck) -> bool:
        """Whether two checks in a row found that the engine has not sent the log's last entry."""
        # Before it sends the first entry, the engine may still be searching for that.
        if check.last_ns is None:
            return False
        try:
            last = await self._log.first_of_tail(1)
        except ContainerManagerError:
            return False  # this reading will soon meet the same error
        if last is None or last[0] in (check.last_ns, self._ignored_ns) or last[0] < (self._since_ns or 0):
            self.unshown_ns = None
            return False
        known, self.unshown_ns = self.unshown_ns, last[0]
        return known is not None
