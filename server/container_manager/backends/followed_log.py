"""Follows a container's log once, for as long as the engine is sure to have sent every entry, in order.

The engine opens all files of a log when the log is requested, and reads the existing entries from them. After that it
follows only the newest file. If that file is replaced twice while the engine is behind, it continues with the newest
one and skips the one in between; Engine 23 and later report this in their own log only. Engine 20.10 also repeats the
entries of a new file that it has read before it first reached its end; and if the file is replaced while the engine
reads the existing entries, it sends nothing until the next replacement (moby
``daemon/logger/loggerutils/logfile.go``, ``follow.go``).

So a request is used for little data and only while it is read at once, and is ended when an entry comes again or when
it is silent though there are more entries. Existing entries are never missed, so the caller reads those next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING
from zlib import crc32

from container_manager.engine.log_frames import FrameDecoder
from container_manager.errors import ContainerManagerError, NodeUnavailableError
from container_manager.model import RawEntry

if TYPE_CHECKING:
    from container_manager.backends.engine_log import EngineLog

# A bot's file of 10 MB has more than that in entries, unless most of its bytes are escaped in JSON.
_MAX_BYTES = 1 << 20
# Within this time no container fills a file.
_MAX_PAUSE_SECONDS = 0.25

# An engine that stops sending though there is more does so right at the start, or else very rarely.
_FIRST_SILENCE_SECONDS = 1.0
_LAST_SILENCE_SECONDS = 30.0
# New entries may be on their way.
_GRACE_SECONDS = 1.0


class FollowedLog:
    """One request; iterate :meth:`batches` once."""

    def __init__(self, log: EngineLog, tail: int | None, known: int) -> None:
        """``tail`` and ``known``: as of :meth:`container_manager.backend_logs.ContainerLog.follow`."""
        self._log = log
        self._tail = tail
        self._known = known
        self._last: RawEntry | None = None
        self._seen: set[tuple[int, int]] = set()

    async def batches(self) -> AsyncGenerator[list[RawEntry], None]:
        """The entries, as they arrive; an empty list when none have arrived for a while.

        Raises the errors of :class:`~container_manager.backend_logs.ContainerLog`.
        """
        now = asyncio.get_running_loop().time
        decoder = FrameDecoder()
        silence_seconds = _FIRST_SILENCE_SECONDS
        received = 0
        missing = False
        async with self._log.opened(follow=True, tail=self._tail) as stream:
            while received < _MAX_BYTES:
                try:
                    async with asyncio.timeout(_GRACE_SECONDS if missing else silence_seconds):
                        data = await stream.read()
                except TimeoutError:
                    silence_seconds = min(2 * silence_seconds, _LAST_SILENCE_SECONDS)
                    yield []
                    # Twice in a row: an entry may have been written a moment ago.
                    missed, missing = missing, await self._misses_something()
                    if missed and missing:
                        return
                    continue
                missing = False
                # Existing entries come first, and are not missed.
                received += len(data) if self._known <= 0 else 0
                async for batch in decoder.feed(data):
                    if new := self._new(batch):
                        given = now()
                        yield batch[:new]
                        if now() - given > _MAX_PAUSE_SECONDS:
                            return
                    if new < len(batch):
                        return
                if decoder.problem is not None:
                    raise decoder.problem
                if not data:
                    return

    def _new(self, batch: Sequence[RawEntry]) -> int:
        """How many of these entries come before the first one that the engine may have sent before."""
        seen = self._seen
        for index, entry in enumerate(batch):
            key = (entry[0], crc32(entry[2]))
            # Pieces of a line may be equal.
            if key in seen and not (self._known > 0 and entry[3] and entry == self._last):
                return index
            self._known -= 1
            seen.add(key)
            self._last = entry
        return len(batch)

    async def _misses_something(self) -> bool:
        """Whether the log's last entry is not the last one that the engine has sent."""
        try:
            async with aclosing(self._log.existing(1)) as batches:
                async for batch in batches:
                    return batch[-1] != self._last
        except NodeUnavailableError:
            # A swarm does not end the request for it, and sends nothing more when the node is back.
            raise
        except ContainerManagerError:
            pass  # this request will soon meet the same error
        return False
