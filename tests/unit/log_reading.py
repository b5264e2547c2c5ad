"""Reads a container's log in tests, from an engine in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from container_manager.backends.docker.container_log import DockerContainerLog
from container_manager.logs.existing import LogOptions
from container_manager.logs.reader import LogReader
from container_manager.model import LogEntry, RawEntry
from tests.support.virtual_loop import run
from tests.unit.log_engine import CONTAINER, ERR, OUT, SECOND, LogEngine, raw

LINES = [raw(number * SECOND, b"line %d" % number, ERR if number % 3 else OUT) for number in range(100)]
LONG = [*LINES[:50], *(raw(60 * SECOND, b"x" * 16384, partial=True) for _ in range(2)), raw(60 * SECOND, b"end")]
# More than a reader holds.
MANY = [*LINES, *(raw((100 + number) * SECOND, b"x" * 16384) for number in range(64))]
# Written later.
WRITTEN = [raw((200 + number) * SECOND, b"written %d" % number) for number in range(50)]
FOLLOW = LogOptions(follow=True)


class Reading:
    """A task that reads entries into ``got``."""

    def __init__(self, engine: LogEngine, options: LogOptions) -> None:
        self.got: list[LogEntry] = []
        self.batches: list[list[LogEntry]] = []
        self._reader = LogReader(DockerContainerLog(engine, CONTAINER), CONTAINER, options, engine)
        self.task = asyncio.create_task(self._read())
        self._engine = engine
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    def pause(self) -> None:
        """Stop after the next batch."""
        self._goes_on.clear()

    def go_on(self) -> None:
        """Continue after :meth:`pause`."""
        self._goes_on.set()

    async def _read(self) -> None:
        async with aclosing(self._reader.batches()) as batches:
            async for batch in batches:
                self.batches.append(batch)
                self.got += batch
                await self._goes_on.wait()

    async def has(self, count: int) -> None:
        """Wait for ``count`` entries, or the end."""
        await self._engine.until(lambda: len(self.got) >= count or self.task.done())


@asynccontextmanager
async def reading(engine: LogEngine, options: LogOptions = FOLLOW) -> AsyncIterator[Reading]:
    """A :class:`Reading`, which is cancelled at the end; asserts that it leaves no stream open."""
    it = Reading(engine, options)
    try:
        yield it
    finally:
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)
    assert 0 == engine.open_streams


def read(engine: LogEngine, **options: Any) -> list[LogEntry]:
    """All entries of a reading that ends by itself."""

    async def all_of_it() -> list[LogEntry]:
        async with reading(engine, LogOptions(**options)) as it:
            await it.task
        return it.got

    return run(all_of_it())


def texts(entries: Sequence[LogEntry | RawEntry]) -> list[bytes]:
    return [entry[2] for entry in entries]


def followed(engine: LogEngine) -> int:
    """How many requests asked to follow the log."""
    return sum(request.get("follow") == "1" for request in engine.requests)


async def a_while(seconds: float = 5) -> None:
    """Longer than any delay before another attempt."""
    await asyncio.sleep(seconds)
