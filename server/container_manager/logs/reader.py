"""A container's log as one stream, over restarts of the container and absences of the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Protocol

from container_manager.backend import ContainerLog, LogUnreadableError
from container_manager.errors import (
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidStateError,
)
from container_manager.logs.cursor import MARGIN_NS, Placing, Window
from container_manager.model import LogEntry, RawEntry

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The part of a log that is wanted."""

    follow: bool = False
    """Go on with what the container writes, until it is removed."""
    tail_lines: int | None = None
    """Begin with the last so many entries, or with the first piece of the line that this would begin within. ``None``:
    with the first one."""
    after_ns: int | None = None
    """Only entries after the one with this time."""
    limit_bytes: int | None = None
    """End before the entry that would make it more than so many bytes of lines."""


class Versions(Protocol):
    """Tells of containers' changes: starts, ends, removals."""

    def version(self, container_id: str) -> int | None:
        """The version of the container's last known change; ``None``: it is gone."""

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Wait until the container's version is another one, which is returned, or it is gone.

        Also waits while the engine is away. May be cancelled at any time.
        """


class LogReader:
    """One stream of one container's log."""

    def __init__(self, log: ContainerLog, container_id: str, options: LogOptions, versions: Versions) -> None:
        self._log = log
        self._container_id = container_id
        self._options = options
        self._versions = versions
        # Where to go on: after this place, or else, while nothing is handed out, from this entry on.
        self._after_ns = options.after_ns
        self._first: RawEntry | None = None
        # Of the latest reading.
        self._progress = False
        self._retry_seconds = _FIRST_RETRY_SECONDS

    async def entries(self) -> AsyncGenerator[LogEntry, None]:
        """The entries, oldest first. Iterate once, and close with :func:`contextlib.aclosing`.

        Nothing is read ahead but what the sockets hold. Raises :class:`ContainerNotFoundError`, and
        :class:`InvalidStateError` for a container whose log driver keeps nothing to read; :class:`EngineTimeoutError`
        and :class:`EngineUnavailableError` with ``follow`` only at the begin, or when the engine can't read the log.
        """
        if not await self._find_begin():
            return
        left = self._options.limit_bytes
        async with aclosing(self._followed() if self._options.follow else self._read(follow=False)) as batches:
            async for batch in batches:
                for entry in batch:
                    if left is not None:
                        left -= len(entry.line)
                        if left < 0:
                            return
                    yield entry

    async def _find_begin(self) -> bool:
        """Find where the tail begins. False: nothing is wanted at all."""
        if self._options.tail_lines is None:
            return True
        if self._options.tail_lines > 0:
            self._first = await self._log.first_of_tail(self._options.tail_lines)
            return True
        last_ns = await self._last_place_ns()
        self._after_ns = max((place for place in (self._after_ns, last_ns) if place is not None), default=None)
        return self._options.follow

    async def _last_place_ns(self) -> int | None:
        """The place of the last entry; ``None`` for an empty log."""
        last = await self._log.first_of_tail(1)
        if last is None:
            return None
        placing = Placing()
        async with aclosing(self._log.batches(since_ns=max(last[0] - MARGIN_NS, 0))) as batches:
            async for batch in batches:
                for engine_ns, *_ in batch:
                    placing.place(engine_ns)
        return placing.last_ns

    async def _followed(self) -> AsyncGenerator[list[LogEntry], None]:
        """One reading after another, each from where the one before ended, until the engine has no such container."""
        while True:
            version = self._versions.version(self._container_id)
            lost = False
            try:
                async with aclosing(self._read(follow=version is not None)) as batches:
                    async for batch in batches:
                        yield batch
            except (ContainerNotFoundError, InvalidStateError):
                if not self._log.was_opened:
                    raise
                return
            except (EngineUnavailableError, EngineTimeoutError) as exc:
                if not self._log.was_opened or (isinstance(exc, LogUnreadableError) and not self._progress):
                    raise
                lost = True
            if version is None:
                # That it is gone is the engine's to say. Whoever has said so is about to hear of it, or is right, and
                # the engine will say so when it is back.
                await self._sleep()
            else:
                await self._pause(version, lost=lost)

    async def _read(self, *, follow: bool) -> AsyncGenerator[list[LogEntry], None]:
        """Read once, from where the reading before ended."""
        self._progress = False
        window = Window(self._after_ns, self._first)
        since_ns = window.since_ns(time.time_ns())
        read = self._log.follow if follow else self._log.batches
        async with aclosing(read(since_ns=since_ns)) as batches:
            async for batch in batches:
                if wanted := window.select(batch) if batch else window.release():
                    self._go_on_after(wanted[-1])
                    yield wanted
        if wanted := window.release():
            self._go_on_after(wanted[-1])
            yield wanted

    def _go_on_after(self, entry: LogEntry) -> None:
        self._after_ns, self._first, self._progress = entry.time_ns, None, True

    async def _pause(self, version: int, *, lost: bool) -> None:
        """Wait until another reading may bring more; ``version`` is from before the last one."""
        if self._progress or self._versions.version(self._container_id) != version:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        if self._versions.version(self._container_id) != version or (self._log.broken_off and self._progress):
            return
        if not lost and not self._log.broken_off and not await self._may_run():
            await self._versions.await_change(self._container_id, version)
            return
        # The engine may be back, or have its log in order, without any change of the container.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._retry_seconds):
                await self._versions.await_change(self._container_id, version)
        self._retry_later()

    async def _sleep(self) -> None:
        if self._progress:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        await asyncio.sleep(self._retry_seconds)
        self._retry_later()

    def _retry_later(self) -> None:
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)

    async def _may_run(self) -> bool:
        """Whether the container runs just now. True also when that can't be told, but by another reading."""
        try:
            return await self._log.runs()
        except (ContainerNotFoundError, InvalidStateError, EngineUnavailableError, EngineTimeoutError):
            return True
