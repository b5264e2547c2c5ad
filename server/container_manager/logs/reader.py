"""Reads a container's log as one stream, across restarts of the container and absences of the engine."""

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

MAX_BATCH_ENTRIES = 1000
"""More entries at once are not faster, and keep the event loop from other work for longer."""

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The part of a log to read."""

    follow: bool = False
    """Continue with new entries until the container is removed."""
    tail_lines: int | None = None
    """Number of existing entries to begin with. If that would begin within a long line, begin with the line's first
    piece. ``None``: all."""
    after_ns: int | None = None
    """Only entries after the one with this time."""
    limit_bytes: int | None = None
    """Maximum number of bytes in all lines together; the stream ends before the entry that would exceed it."""


class Versions(Protocol):
    """Reports changes of containers: starts, ends, removals."""

    def version(self, container_id: str) -> int | None:
        """The version of the container's last known change; ``None``: the container is gone."""

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Wait until the container has another version, and return that; ``None``: the container is gone.

        Also waits while the engine is away. May be cancelled at any time.
        """


class LogReader:
    """One stream of one container's log."""

    def __init__(self, log: ContainerLog, container_id: str, options: LogOptions, versions: Versions) -> None:
        self._log = log
        self._container_id = container_id
        self._options = options
        self._versions = versions
        # Where the next reading begins: after this place, or with this entry until the first one has been delivered.
        self._after_ns = options.after_ns
        self._first: RawEntry | None = None
        # Whether the latest reading delivered an entry.
        self._progress = False
        self._retry_seconds = _FIRST_RETRY_SECONDS

    async def batches(self) -> AsyncGenerator[list[LogEntry], None]:
        """The entries, oldest first, as they become ready, 1 to :data:`MAX_BATCH_ENTRIES` at once.

        Iterate once, and close with :func:`contextlib.aclosing`. Nothing is read ahead except what the sockets hold.

        Raises :class:`ContainerNotFoundError`; :class:`InvalidStateError` if the container's log driver does not
        support reading; :class:`EngineTimeoutError` and :class:`EngineUnavailableError`, with ``follow`` only at the
        start, or if the engine cannot read the log.
        """
        if not await self._find_start():
            return
        left = self._options.limit_bytes
        async with aclosing(self._followed() if self._options.follow else self._read(follow=False)) as batches:
            async for batch in batches:
                if left is not None:
                    left -= sum(len(entry.line) for entry in batch)
                    if left < 0:
                        if fitting := _without_excess(batch, -left):
                            yield fitting
                        return
                yield batch

    async def _find_start(self) -> bool:
        """Find the first entry of the tail. False: there is nothing to read."""
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
                placing.place(batch)
        return placing.last_ns

    async def _followed(self) -> AsyncGenerator[list[LogEntry], None]:
        """One reading after another, each from where the previous one ended, until the engine has no such container."""
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
                # Only the engine decides that the container is gone. Read again until it says so, or until the view
                # has the container back.
                await self._sleep()
            else:
                await self._pause(version, lost=lost)

    async def _read(self, *, follow: bool) -> AsyncGenerator[list[LogEntry], None]:
        """Read once, from where the previous reading ended."""
        self._progress = False
        window = Window(self._after_ns, self._first)
        since_ns = window.since_ns(time.time_ns())
        read = self._log.follow if follow else self._log.batches
        async with aclosing(read(since_ns=since_ns)) as batches:
            async for batch in batches:
                # A slice takes about a millisecond, and the caller's writes let other tasks run in between.
                for begin in range(0, len(batch), MAX_BATCH_ENTRIES):
                    if wanted := window.select(batch[begin : begin + MAX_BATCH_ENTRIES]):
                        self._continue_after(wanted[-1])
                        yield wanted
                if not batch and (held := window.release()):
                    self._continue_after(held[-1])
                    yield held
        if held := window.release():
            self._continue_after(held[-1])
            yield held

    def _continue_after(self, entry: LogEntry) -> None:
        self._after_ns, self._first, self._progress = entry.time_ns, None, True

    async def _pause(self, version: int, *, lost: bool) -> None:
        """Wait until another reading may deliver more. ``version`` is from before the last reading."""
        if self._progress or self._versions.version(self._container_id) != version:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        if self._versions.version(self._container_id) != version or (self._log.broken_off and self._progress):
            return
        if not lost and not self._log.broken_off and not await self._may_run():
            await self._versions.await_change(self._container_id, version)
            return
        # The engine may come back, or repair its log, without any change of the container.
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
        """Whether the container runs now. True also if the engine does not answer: another reading will show it."""
        try:
            return await self._log.runs()
        except (ContainerNotFoundError, InvalidStateError, EngineUnavailableError, EngineTimeoutError):
            return True


def _without_excess(batch: list[LogEntry], excess_bytes: int) -> list[LogEntry]:
    """The batch up to where it has ``excess_bytes`` less than as a whole, or a little fewer."""
    count = len(batch)
    while excess_bytes > 0:
        count -= 1
        excess_bytes -= len(batch[count].line)
    return batch[:count]
