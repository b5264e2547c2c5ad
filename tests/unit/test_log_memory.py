"""What a reader of a log keeps in memory is bounded, whatever a bot has written."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.logs.cursor import Placing, container_key, position_of
from container_manager.logs.existing import MAX_BATCH_ENTRIES, ExistingEntries, LogOptions
from container_manager.model import LogSource, RawEntry
from tests.support.traced_memory import traced
from tests.unit.log_engine import CONTAINER
from tests.unit.test_log_stretches import Lines, entries

PIECES = 1000
PIECE_BYTES = 16 * 1024
# What is held until it is checked, twice, and what belongs to it.
MOST_BYTES = 3 << 20
SHORT_LINES = 20_000


def piece(number: int) -> RawEntry:
    return (1, LogSource.STDOUT, (b"%d " % number).ljust(PIECE_BYTES, b"x"), True)


class OneLine:
    """A log of one line, whose first pieces have been dropped. The pieces are made anew for each reading."""

    was_opened = True

    def __init__(self, dropped: int = 0) -> None:
        self._dropped = dropped

    async def runs(self) -> bool:
        return False

    async def existing(
        self,
        tail: int | None = None,
        until_ns: int | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[list[RawEntry], None]:
        begin = self._dropped if tail is None else max(self._dropped, PIECES - tail)
        for number in range(begin, PIECES):
            yield [piece(number)]

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        raise NotImplementedError


async def sizes(log: OneLine, options: LogOptions) -> list[tuple[int, int]]:
    """The entries and bytes of each batch."""
    async with aclosing(ExistingEntries(log, CONTAINER, options).batches()) as batches:
        return [(len(batch), sum(len(entry.line) for entry in batch)) async for batch in batches]


@pytest.mark.parametrize("begins", ["at a tail of 1", "at a tail of 100", "after a cursor", "after a cursor of a rest"])
def test_a_line_of_many_pieces_is_not_held_wherever_a_reading_begins_in_it(begins: str) -> None:
    placed = Placing(container_key(CONTAINER)).place(map(piece, range(101)))
    after = position_of(placed[100].cursor.decode())
    dropped, options, expected = {
        "at a tail of 1": (0, LogOptions(tail_lines=1), PIECES),
        "at a tail of 100": (0, LogOptions(tail_lines=100), PIECES),
        "after a cursor": (0, LogOptions(after=after), PIECES - 101),
        "after a cursor of a rest": (50, LogOptions(after=after), PIECES - 101),
    }[begins]
    del placed
    tracemalloc.start()
    try:
        got = asyncio.run(sizes(OneLine(dropped), options))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert expected == sum(entries for entries, _ in got)
    assert peak < MOST_BYTES
    assert MAX_BATCH_ENTRIES >= max(entries for entries, _ in got)
    assert 1 << 20 >= max(size for _, size in got)


async def held_at_the_end(log: Lines, options: LogOptions, held: Callable[[], int]) -> int:
    """What is held while the caller has the last entry."""
    got = 0
    async with aclosing(ExistingEntries(log, CONTAINER, options).batches()) as batches:
        with suppress(LogUnreadableError):
            async for batch in batches:
                if batch[-1].time_ns == SHORT_LINES - 1:
                    got = held()
    return got


@pytest.mark.parametrize("tail", [None, 10])
def test_what_is_known_of_a_damaged_log_of_short_lines_is_not_kept(tail: int | None) -> None:
    """A reader knows all intact entries while it looks for them. For a tail it does not look so far."""
    lines = entries(0, SHORT_LINES)
    lines[-50] = None
    with traced() as held:
        got = asyncio.run(held_at_the_end(Lines(lines), LogOptions(tail_lines=tail), held))
        _, peak = tracemalloc.get_traced_memory()
    assert 0 < got < 1 << 18
    assert tail is None or peak < 1 << 18
