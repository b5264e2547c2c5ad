"""The output of an action on its way from the worker that receives it to the event loop that passes it on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

from container_manager.model import LogSource

MOST_BYTES = 1024 * 1024
"""Of both outputs together; the rest is counted and dropped."""
_PIECE_BYTES = 64 * 1024


class Piece(NamedTuple):
    """A piece of output."""

    source: LogSource
    data: bytes


class ActionOutput:
    """A bounded buffer: the program does not wait for a slow reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.omitted_bytes = 0
        self._loop = loop
        self._lock = threading.Lock()
        self._room = MOST_BYTES
        self._pending: list[tuple[LogSource, bytearray]] = []
        self._changed = asyncio.Event()
        self._closed = False

    def add(self, source: LogSource, data: bytes) -> None:
        """Add a piece, in any thread."""
        with self._lock:
            kept = data[: self._room]
            self._room -= len(kept)
            self.omitted_bytes += len(data) - len(kept)
            if not kept:
                return
            # Programs write many small pieces, and a message for each would cost more than its content.
            if self._pending and self._pending[-1][0] is source and len(self._pending[-1][1]) < _PIECE_BYTES:
                self._pending[-1][1].extend(kept)
                return
            self._pending.append((source, bytearray(kept)))
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """There is no more output. On the event loop."""
        self._closed = True
        self._changed.set()

    async def pieces(self) -> AsyncIterator[Piece]:
        """The pieces, until :meth:`close`."""
        while True:
            await self._changed.wait()
            closed = self._closed
            self._changed.clear()
            with self._lock:
                pending, self._pending = self._pending, []
            for source, data in pending:
                yield Piece(source, bytes(data))
            if closed:
                return
