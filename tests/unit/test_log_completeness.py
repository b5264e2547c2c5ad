"""A reading of a log that grows meanwhile is not taken for one of a damaged log; one that left out entries is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import product

import pytest

from container_manager.backend import LogUnreadableError
from container_manager.logs.damage import Completeness
from container_manager.model import LogSource, RawEntry

LOOKS = 8


def entry(number: int) -> RawEntry:
    return (number, LogSource.STDOUT, b"line %d" % number, False)


class GrowingLog:
    """Has grown by two entries before each look for which ``grows`` says so."""

    was_opened = True

    def __init__(self, entries: list[RawEntry], grows: tuple[bool, ...]) -> None:
        self.entries = list(entries)
        self._grows = iter(grows)

    async def runs(self) -> bool:
        return True

    async def existing(self, tail: int | None = None) -> AsyncGenerator[list[RawEntry], None]:
        if next(self._grows, False):
            self.entries += [entry(len(self.entries) + number) for number in (1, 2)]
        kept = self.entries if tail is None else self.entries[-tail:] if tail else []
        if kept:
            yield kept

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        raise NotImplementedError


def check(log: GrowingLog, seen: list[RawEntry]) -> None:
    """Check a reading of all entries, in which these came."""
    completeness = Completeness(log, None)
    completeness.see(seen)
    asyncio.run(completeness.check())


def moments(grows: tuple[bool, ...]) -> str:
    return "".join("-+"[each] for each in grows)


@pytest.mark.parametrize("grows", list(product((False, True), repeat=LOOKS)), ids=moments)
def test_a_log_that_grows_at_any_moment_of_the_check_is_not_damaged(grows: tuple[bool, ...]) -> None:
    entries = [entry(number) for number in range(1, 6)]
    check(GrowingLog(entries, grows), entries)


def test_a_reading_that_left_out_entries_is_noticed() -> None:
    entries = [entry(number) for number in range(1, 6)]
    with pytest.raises(LogUnreadableError, match="entries are missing"):
        check(GrowingLog(entries, ()), [*entries[:2], *entries[3:]])


def test_a_reading_that_left_out_entries_is_noticed_when_the_log_has_grown_once_since() -> None:
    entries = [entry(number) for number in range(1, 6)]
    with pytest.raises(LogUnreadableError, match="entries are missing"):
        check(GrowingLog(entries, (True,)), [*entries[:2], *entries[3:]])
