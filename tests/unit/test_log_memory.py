"""What a reader of a log keeps in memory is bounded, whatever a bot has written."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from container_manager.logs.cursor import Placing, container_key, position_of
from container_manager.logs.existing import MAX_BATCH_ENTRIES, ExistingEntries, LogOptions
from container_manager.model import LogSource, RawEntry
from tests.unit.log_engine import CONTAINER

PIECES = 1000
PIECE_BYTES = 16 * 1024
# What is held until it is checked, twice, and what belongs to it.
MOST_BYTES = 3 << 20


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
