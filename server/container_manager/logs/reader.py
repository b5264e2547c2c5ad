"""Reads a container's log as one stream, across restarts of the container and absences of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

from container_manager.backend_logs import ContainerLog, LogNotDecodableError, LogUnreadableError
from container_manager.errors import (
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidStateError,
    NodeUnavailableError,
)
from container_manager.logs.continuity import Continuity
from container_manager.logs.cursor import container_key
from container_manager.logs.existing import ExistingEntries, LogOptions
from container_manager.logs.seeking import AfterPosition, FromStart, Seeker
from container_manager.model import LogEntry

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0

# A followed log is read from so many entries before the last one, in case that many more are written meanwhile.
_NEARBY = 64


class Versions(Protocol):
    """Reports changes of containers: starts, ends, removals."""

    def version(self, container_id: str) -> int | None:
        """The version of the container's last known change; ``None``: the container is gone."""

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Wait until the container has another version, and return that; ``None``: the container is gone.

        Also waits while the engine is away. May be cancelled at any time.
        """


class LogReader:
    """One stream of one container's log.

    It reads the existing entries, then follows from the last of them. When following ends, it starts over. It continues
    after the last entry by that entry's position, so nothing depends on times or on how following ended.
    """

    def __init__(self, log: ContainerLog, container_id: str, options: LogOptions, versions: Versions) -> None:
        self._log = log
        self._container_id = container_id
        self._options = options
        self._versions = versions
        self._entries = ExistingEntries(log, container_id, options)
        self._retry_seconds = _FIRST_RETRY_SECONDS

    async def batches(self) -> AsyncGenerator[list[LogEntry], None]:
        """The entries, oldest first, as they become ready, 1 to :data:`MAX_BATCH_ENTRIES` at once.

        Iterate once, and close with :func:`contextlib.aclosing`. What exists is read to its end before any of it is
        delivered, and held if it is at most 1 MiB; otherwise it is read again. Of that and of what is written later,
        nothing is read ahead except what the sockets hold.

        Raises :class:`ContainerNotFoundError`; :class:`InvalidStateError` if the container's log driver does not
        support reading, or if the engine sends something that is not a log; :class:`EngineTimeoutError`,
        :class:`EngineUnavailableError` and :class:`NodeUnavailableError`, with ``follow`` only at the start, or if the
        engine cannot read the log. If the log is damaged, that is after all entries that can be read.
        """
        left = self._options.limit_bytes
        async with aclosing(self._followed() if self._options.follow else self._entries.batches()) as batches:
            async for batch in batches:
                if left is not None:
                    left -= sum(len(entry.line) for entry in batch)
                    if left < 0:
                        if fitting := _without_excess(batch, -left):
                            yield fitting
                        return
                yield batch

    async def _followed(self) -> AsyncGenerator[list[LogEntry], None]:
        """One reading after another, each from where the previous one ended, until the engine has no such container."""
        while True:
            version = self._versions.version(self._container_id)
            self._entries.progress = False
            lost = runs = live = False
            try:
                # First: what was written before the process ended is then among the existing entries.
                runs = await self._log.runs()
                async with aclosing(self._entries.batches()) as batches:
                    async for batch in batches:
                        yield batch
                if live := runs and version is not None:
                    async with aclosing(self._live()) as batches:
                        async for batch in batches:
                            yield batch
            except (ContainerNotFoundError, InvalidStateError) as exc:
                if isinstance(exc, LogNotDecodableError) or not self._log.was_opened:
                    raise
                return
            except (EngineUnavailableError, EngineTimeoutError, NodeUnavailableError) as exc:
                # Unless an engine can read no entry at all, reading the existing ones is a way to follow too.
                unreadable = isinstance(exc, LogUnreadableError) and not live
                if not self._log.was_opened or (unreadable and self._entries.last is None):
                    raise
                lost = True
            await self._pause(version, ended=not runs and not lost)

    async def _live(self) -> AsyncGenerator[list[LogEntry], None]:
        """What follows the last entry, while the backend is sure to miss nothing."""
        last = self._entries.last
        tail, known = None, 0
        seeker: Seeker
        if last is None:
            seeker = FromStart(container_key(self._container_id))
        else:
            known = last.number + 2 + _NEARBY
            tail = None if last.leads else known
            seeker = AfterPosition(last, whole=tail is None)
        continuity = Continuity(self._log, last)
        seen = 0
        async with aclosing(self._log.follow(tail, known=known)) as raw_batches:
            async for raw in raw_batches:
                for batch in self._entries.select(raw, seeker):
                    yield batch
                seen += len(raw)
                if raw:
                    continuity.see(raw)
                elif await continuity.is_broken(self._entries.last):
                    self._entries.gap = True
                # So many entries were written meanwhile, or the engine cannot read the last one now.
                if not seeker.found and (not raw or (tail is not None and seen >= tail)):
                    return
        if await continuity.is_broken(self._entries.last):
            self._entries.gap = True

    async def _pause(self, version: int | None, *, ended: bool) -> None:
        """Wait until another reading may deliver more. ``version`` is from before the last reading."""
        if self._entries.progress:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        if version is None:
            # Only the engine decides that the container is gone. Read again until it says so, or until the view has
            # the container back.
            await asyncio.sleep(self._retry_seconds)
        elif self._versions.version(self._container_id) != version:
            self._retry_seconds = _FIRST_RETRY_SECONDS
            return
        elif ended:
            await self._versions.await_change(self._container_id, version)
            return
        elif self._entries.progress:
            return
        else:
            # The engine may come back, or repair its log, without any change of the container.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._retry_seconds):
                    await self._versions.await_change(self._container_id, version)
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY_SECONDS)


def _without_excess(batch: list[LogEntry], excess_bytes: int) -> list[LogEntry]:
    """The batch up to where it has ``excess_bytes`` less than as a whole, or a little fewer."""
    count = len(batch)
    while excess_bytes > 0:
        count -= 1
        excess_bytes -= len(batch[count].line)
    return batch[:count]
