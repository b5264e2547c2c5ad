"""Entries of a log that grows meanwhile are not taken for those of a damaged log; if some were left out, they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import product

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.logs.continuity import Continuity
from container_manager.logs.cursor import Placing
from container_manager.logs.damage import Completeness
from container_manager.model import LogSource, RawEntry

LOOKS = 8
PIECE: RawEntry = (10, LogSource.STDOUT, b"piece", True)


def entry(number: int) -> RawEntry:
    return (number, LogSource.STDOUT, b"line %d" % number, False)


class GrowingLog:
    """Has grown by some lines before each look for which ``grows`` says so. A line that is ``None`` cannot be read."""

    was_opened = True

    def __init__(
        self, lines: list[RawEntry | None], grows: tuple[bool, ...], kept: int | None = None, *, by: int = 2
    ) -> None:
        """``kept``: the log is rotated to so many lines when it grows."""
        self._lines = lines
        self._kept = kept
        self._written = len(lines)
        self._grows = iter(grows)
        self._by = by
        self.looks = 0

    async def runs(self) -> bool:
        return True

    async def existing(
        self,
        tail: int | None = None,
        until_ns: int | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[list[RawEntry], None]:
        self.looks += 1
        if next(self._grows, False):
            self._lines = [*self._lines, *(self.new(self._written + number) for number in range(1, self._by + 1))]
            self._lines = self._lines[-(self._kept or len(self._lines)) :]
            self._written += self._by
        lines = self._lines if tail is None else self._lines[-tail:] if tail else []
        if read := [line for line in lines if line is not None]:
            yield read

    def new(self, number: int) -> RawEntry:
        return entry(number)

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        raise NotImplementedError


def check(log: GrowingLog, seen: list[RawEntry]) -> None:
    """Check a reading of all entries, in which these came."""
    completeness = Completeness(log, None)
    completeness.see(seen)
    asyncio.run(completeness.check())


def moments(grows: tuple[bool, ...]) -> str:
    return "".join("-+"[each] for each in grows)


at_any_moment = pytest.mark.parametrize("grows", list(product((False, True), repeat=LOOKS)), ids=moments)


@pytest.mark.parametrize("kept", [None, 5])
@at_any_moment
def test_a_log_that_grows_at_any_moment_of_the_check_is_not_damaged(grows: tuple[bool, ...], kept: int | None) -> None:
    entries = [entry(number) for number in range(1, 6)]
    check(GrowingLog(list(entries), grows, kept), entries)


@at_any_moment
def test_a_reading_that_left_out_entries_is_noticed_at_whatever_moment_the_log_grows(grows: tuple[bool, ...]) -> None:
    entries = [entry(number) for number in range(1, 11)]
    with pytest.raises(LogUnreadableError, match="entries are missing"):
        check(GrowingLog([*entries[:5], None, *entries[6:]], grows), [*entries[:5], *entries[6:]])


@pytest.mark.parametrize("tail", [None, 1, 3])
@pytest.mark.parametrize("by", [1, 2])
@at_any_moment
def test_an_empty_log_that_grows_at_any_moment_of_the_check_is_not_damaged(
    grows: tuple[bool, ...], tail: int | None, by: int
) -> None:
    asyncio.run(Completeness(GrowingLog([], grows, by=by), tail).check())


def is_broken(log: GrowingLog, seen: list[RawEntry], known: int = 0) -> bool:
    """Whether some are missing, by the check of a followed log in which these came. So many of them were known."""
    placing = Placing(b"")
    placing.place(seen[:known])
    continuity = Continuity(log, placing.last)
    placing.place(seen[known:])
    continuity.see(seen)
    return asyncio.run(continuity.is_broken(placing.last))


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize("kept", [None, 5])
@at_any_moment
def test_what_was_followed_of_a_log_that_grows_at_any_moment_misses_nothing(
    grows: tuple[bool, ...], kept: int | None, known: int
) -> None:
    entries = [entry(number) for number in range(1, 6)]
    assert not is_broken(GrowingLog(list(entries), grows, kept), entries, known)


@pytest.mark.parametrize(("by", "looks"), [(0, 1), (1, 8), (5, 5), (16, 2)])
def test_the_check_of_a_log_that_grows_all_the_time_takes_few_requests(by: int, looks: int) -> None:
    entries = [entry(number) for number in range(1, 101)]
    log = GrowingLog(list(entries), (True,) * 100, by=by)
    assert not is_broken(log, entries, 50)
    assert looks == log.looks


class PiecesLog(GrowingLog):
    """Grows by equal pieces of a line."""

    def new(self, number: int) -> RawEntry:  # noqa: ARG002 - they are equal
        return PIECE


@pytest.mark.parametrize("seen", [1, 2, 20])
@pytest.mark.parametrize("by", [1, 2])
@at_any_moment
def test_a_line_that_grows_by_equal_pieces_at_any_moment_misses_nothing(
    grows: tuple[bool, ...], by: int, seen: int
) -> None:
    entries = [*(entry(number) for number in range(1, 10)), *([PIECE] * seen)]
    log = PiecesLog(list(entries), grows, by=by)
    assert not is_broken(log, entries, 5)


class EndingLog(GrowingLog):
    """Shows nothing behind a line that cannot be read, unless a reading begins behind it."""

    async def existing(
        self, tail: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        async with aclosing(super().existing(tail, until_ns)) as batches:
            async for batch in batches:
                lines = self._lines if tail is None else self._lines[-tail:]
                if read := batch[: lines.index(None) if None in lines else None]:
                    yield read


@pytest.mark.parametrize("damaged", [None, GrowingLog, EndingLog])
@pytest.mark.parametrize("grows", [(), *(moments for moments in product((False, True), repeat=4) if sum(moments) == 1)])
def test_entries_that_were_passed_over_while_it_was_followed_are_noticed_though_the_log_grows(
    grows: tuple[bool, ...], damaged: type[GrowingLog] | None
) -> None:
    entries = [entry(number) for number in range(1, 11)]
    log = damaged or GrowingLog
    lines = [*entries[:5], None if damaged else entries[5], *entries[6:]]
    assert is_broken(log(lines, grows), [*entries[:5], *entries[6:]])


@pytest.mark.parametrize("behind", range(15))
def test_the_last_entry_is_found_right_behind_damage_that_ends_a_reading_with_few_requests(behind: int) -> None:
    entries = [entry(number) for number in range(1, 31)]
    log = EndingLog([*entries[:28], None, entries[29]], (False, True), by=behind)
    assert is_broken(log, [*entries[:28], entries[29]], 10)
    assert log.looks <= 20
