"""What is intact of a damaged log is found with few readings, and a reader misses none of it when the log grows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from itertools import pairwise, product, takewhile

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.logs.cursor import position_of
from container_manager.logs.existing import ExistingEntries, LogOptions
from container_manager.logs.stretches import DamagedLog, Stretch
from container_manager.model import LogEntry, LogSource, RawEntry
from tests.unit.log_engine import CONTAINER

PASSED_OVER = 3
BATCH = 10


def entries(begin: int, end: int, size: int = 0) -> list[RawEntry | None]:
    return [(number, LogSource.STDOUT, (b"%d " % number).ljust(size, b"x"), False) for number in range(begin, end)]


class Lines:
    """The lines of a log; ``None`` is a damaged one. The engine passes over it, and over some intact ones behind it."""

    was_opened = True

    def __init__(self, lines: list[RawEntry | None], passed_over: int = PASSED_OVER) -> None:
        self.lines = lines
        self._passed_over = passed_over
        self.sent = 0

    async def runs(self) -> bool:
        return True

    async def existing(
        self,
        tail: int | None = None,
        until_ns: int | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[list[RawEntry], None]:
        intact: list[RawEntry] = []
        passed_over = 0
        for line in self.lines if tail is None else self.lines[-tail:] if tail else []:
            if line is None:
                passed_over = self._passed_over
            elif passed_over:
                passed_over -= 1
            else:
                intact.append(line)
        for begin in range(0, len(intact), BATCH):
            batch = intact[begin : begin + BATCH]
            self.sent += len(batch)
            yield batch

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        raise NotImplementedError


class EndingLines(Lines):
    """The engine ends a reading at a damaged line."""

    reports = False

    async def existing(
        self,
        tail: int | None = None,
        until_ns: int | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[list[RawEntry], None]:
        lines = self.lines if tail is None else self.lines[-tail:] if tail else []
        intact = lines[: lines.index(None)] if None in lines else lines
        async with aclosing(Lines(intact).existing()) as batches:
            async for batch in batches:
                self.sent += len(batch)
                yield batch
        if self.reports and len(intact) < len(lines):
            raise LogUnreadableError("damaged")


class ReportingLines(EndingLines):
    """The engine reports a damaged line, and ends the reading there."""

    reports = True


class DroppingLines(Lines):
    """The engine ends a reading at a damaged line. If it reports that, the last entries before it do not come.

    For each entry that waits, an engine sends that or the report by chance.
    """

    def __init__(self, lines: list[RawEntry | None], seed: int) -> None:
        super().__init__(lines)
        self._random = random.Random(seed)
        self.readings = 0

    async def existing(
        self, tail: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        self.readings += 1
        lines = self.lines if tail is None else self.lines[-tail:] if tail else []
        intact = list(takewhile(lambda line: line is not None and (until_ns is None or line[0] <= until_ns), lines))
        is_damaged = len(intact) < len(lines) and lines[len(intact)] is None
        sent = 0
        while is_damaged and sent <= len(intact) and self._random.random() < 0.5:
            sent += 1
        if came := [line for line in (intact[:sent] if is_damaged else intact) if line is not None]:
            yield came
        # Behind the last entry, it finds the end or the report.
        if is_damaged and sent <= len(intact):
            raise LogUnreadableError("damaged")


ENGINES = (Lines, EndingLines, ReportingLines)


async def received_of(existing: ExistingEntries, *, is_damaged: bool | None = None) -> list[LogEntry]:
    """The entries of a reading. ``is_damaged``: whether it has to end with an error; ``None``: it may."""
    got: list[LogEntry] = []
    error = None
    async with aclosing(existing.batches()) as batches:
        try:
            async for batch in batches:
                got += batch
        except LogUnreadableError as exc:
            error = exc
    assert is_damaged in (None, error is not None)
    return got


def numbers(got: list[LogEntry]) -> list[int]:
    return [int(entry.line.split()[0]) for entry in got]


# As lengths of stretches, with one damaged line between two.
@pytest.mark.parametrize("lengths", [(3000,), (700, 3000), (3000, 700), (2000, 1, 1500), (40, 2047, 2048)])
def test_all_that_is_intact_is_found_and_read_less_than_five_times(lengths: tuple[int, ...]) -> None:
    lines: list[RawEntry | None] = []
    for length in lengths:
        lines += [None, *entries(len(lines), len(lines) + length)]
    log = Lines(lines)
    behind, expected = 0, []
    for length in reversed(lengths):
        expected.insert(0, Stretch(behind + length, length))
        behind += length + 1
    assert expected == asyncio.run(DamagedLog(log).stretches(None, None))
    assert log.sent < 5 * len(lines)


@pytest.mark.parametrize("at", [0, 1, 1000, 1999, 2000, 2001, 4500, 4999])
@pytest.mark.parametrize("alike", [1, 3])
def test_behind_each_cursor_of_a_damaged_log_comes_the_rest(at: int, alike: int) -> None:
    """Also if some entries have the same time."""
    lines = [None if entry is None else (entry[0] // alike, *entry[1:]) for entry in entries(0, 5000)]
    whole = asyncio.run(received_of(ExistingEntries(Lines(lines), CONTAINER, LogOptions())))
    lines.insert(2000, None)
    log = Lines(lines)
    options = LogOptions(after=position_of(whole[at].cursor.decode()))
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, options)))
    assert list(range(at + 1, 5000)) == numbers(got)
    assert log.sent < 10 * len(lines)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alike", [1, 3, 1000])
@pytest.mark.parametrize("after", [None, 0, 199, 200, 249])
def test_what_an_engine_drops_when_it_reports_damage_comes_from_another_reading(
    seed: int, alike: int, after: int | None
) -> None:
    """Also if some entries have the same time, or all."""
    lines = [None if entry is None else (entry[0] // alike, *entry[1:]) for entry in entries(0, 300)]
    whole = asyncio.run(received_of(ExistingEntries(Lines(lines), CONTAINER, LogOptions())))
    lines[250:250] = lines[200:200] = [None]
    options = LogOptions(after=None if after is None else position_of(whole[after].cursor.decode()))
    got = asyncio.run(received_of(ExistingEntries(DroppingLines(lines, seed), CONTAINER, options), is_damaged=True))
    assert list(range(0 if after is None else after + 1, 300)) == numbers(got)
    gaps = [number for number in (200, 250) if after is None or number > after]
    assert gaps == [int(entry.line.split()[0]) for entry in got if entry.gap]


def test_a_long_stretch_before_a_report_of_damage_comes_with_few_readings() -> None:
    lines = [*entries(0, 50_000), None, *entries(50_000, 50_100)]
    log = DroppingLines(lines, 1)
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions()), is_damaged=True))
    assert list(range(50_100)) == numbers(got)
    assert log.readings < 6000


class MixedLines(DroppingLines):
    """The engine reports some damaged lines, as :class:`DroppingLines`, and passes over others, as :class:`Lines`."""

    def __init__(self, lines: list[RawEntry | None], passed_over: set[int], *, drops: bool, seed: int) -> None:
        super().__init__(lines, seed)
        self._silent, self._drops = passed_over, drops

    async def existing(
        self, tail: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        begin = 0 if tail is None else max(0, len(self.lines) - tail)
        lines: list[RawEntry | None] = []
        passed_over = 0
        for number, line in enumerate(self.lines[begin:], begin):
            if number in self._silent:
                passed_over = PASSED_OVER
            elif passed_over:
                passed_over -= 1
            else:
                lines.append(line)
        log = DroppingLines(lines, self._random.randrange(1 << 30)) if self._drops else ReportingLines(lines)
        async with aclosing(log.existing(None, until_ns)) as batches:
            async for batch in batches:
                yield batch


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_damage_that_an_engine_reports_and_damage_that_it_passes_over_double_no_entry(seed: int, drops: bool) -> None:
    choice = random.Random(seed)
    lines: list[RawEntry | None] = []
    silent: set[int] = set()
    for _ in range(choice.randint(2, 4)):
        lines += entries(len(lines), len(lines) + choice.choice([1, 2, 3, 4, 5, 6, 8, 12, 30]))
        if choice.random() < 0.5:
            silent.add(len(lines))
        lines.append(None)
    lines += entries(len(lines), len(lines) + choice.choice([0, 1, 3, 10]))
    log = MixedLines(lines, silent, drops=drops, seed=seed)
    got = numbers(asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions()))))
    assert [number for number, line in enumerate(lines) if line is not None] == got


@pytest.mark.parametrize("seed", range(300))
def test_a_log_of_which_an_engine_drops_entries_by_chance_is_never_taken_for_complete(seed: int) -> None:
    """A reading may bring all up to the damage without a report, and none that it is compared with does."""
    lines = [*entries(0, 3), None, *entries(3, 400)]
    whole = asyncio.run(received_of(ExistingEntries(Lines(entries(0, 400)), CONTAINER, LogOptions())))
    options = LogOptions(after=position_of(whole[2].cursor.decode()))
    got = asyncio.run(received_of(ExistingEntries(DroppingLines(lines, seed), CONTAINER, options), is_damaged=True))
    assert list(range(3, 400)) == numbers(got)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damaged", [1, 3, 100], ids="the last {} lines".format)
@pytest.mark.parametrize("after", [None, 0, 90])
@pytest.mark.parametrize("tail", [None, 1, 3, 99, 100, 101, 150])
def test_all_that_is_intact_comes_if_the_end_is_damaged(
    engine: type[Lines], damaged: int, after: int | None, tail: int | None
) -> None:
    intact = entries(0, 200)
    whole = asyncio.run(received_of(ExistingEntries(Lines(intact), CONTAINER, LogOptions())))
    options = LogOptions(tail_lines=tail, after=None if after is None else position_of(whole[after].cursor.decode()))
    log = engine([*intact, *[None] * damaged])
    expected = list(range(0 if after is None else after + 1, 200))[-(tail or 200) :]
    assert expected == numbers(asyncio.run(received_of(ExistingEntries(log, CONTAINER, options), is_damaged=True)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [40, 150])
@pytest.mark.parametrize("damaged", [1, 2, 20])
@pytest.mark.parametrize("tail", [None, 1, 20])
def test_a_log_with_a_damaged_begin_and_a_damaged_end_is_not_taken_for_an_empty_one(
    engine: type[Lines], size: int, damaged: int, tail: int | None
) -> None:
    lines = entries(0, size)
    lines[0] = None
    lines[size - damaged :] = [None] * damaged
    got = asyncio.run(
        received_of(ExistingEntries(engine(lines), CONTAINER, LogOptions(tail_lines=tail)), is_damaged=True)
    )
    assert list(range(1, size - damaged))[-(tail or size) :] == numbers(got)


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_that_begins_at_damage_is_not_taken_for_empty_though_the_engine_reports_it_by_chance(seed: int) -> None:
    lines = entries(0, 30)
    lines[0] = lines[10] = lines[29] = None
    log = DroppingLines(lines, seed)
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions(tail_lines=20)), is_damaged=True))
    assert [*range(8, 10), *range(11, 29)] == numbers(got)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("size", "damaged"), [(6, (2,)), (6, (0, 3)), (12, (2, 4, 9)), (12, (5, 6, 11)), (400, (120,)), (400, (120, 350))]
)
@pytest.mark.parametrize("alike", [1, 2])
def test_a_tail_behind_a_cursor_of_a_damaged_log_has_each_entry_once(
    engine: type[Lines], size: int, damaged: tuple[int, ...], alike: int
) -> None:
    """Also if some entries have the same time. Only damage within the tail and behind the cursor is told."""
    lines = [None if entry is None else (entry[0] // alike, *entry[1:]) for entry in entries(0, size)]
    whole = asyncio.run(received_of(ExistingEntries(Lines(lines), CONTAINER, LogOptions())))
    for at in damaged:
        lines[at] = None
    intact = [number for number in range(size) if number not in damaged]
    beside = {number + step for number in (*damaged, size) for step in (-4, -1, 1, 3, 4)}
    for after, tail in product(beside & set(intact), {1, 3, 6, *(size - number for number in beside)}):
        if tail < 1:
            continue
        options = LogOptions(tail_lines=tail, after=position_of(whole[after].cursor.decode()))
        expected = [number for number in intact[-tail:] if number > after]
        told = [at for at in damaged if at > after and sum(number > at for number in intact) < tail]
        log = engine(lines)
        got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, options), is_damaged=bool(told)))
        assert (after, tail, expected) == (after, tail, numbers(got))
        assert [number for number in expected if number - 1 in told] == [int(e.line) for e in got if e.gap]
        assert log.sent < 20 * size


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [40, 300])
@pytest.mark.parametrize("damaged", [(-1,), (-2,), (-34,), (0,), (0, -5), (0, -1), (-34, -1), (-34, -5), (-3, -2, -1)])
def test_who_begins_with_no_existing_entry_gets_none_of_a_damaged_log(
    engine: type[Lines], size: int, damaged: tuple[int, ...]
) -> None:
    lines = entries(0, size)
    for at in damaged:
        lines[at] = None
    log = engine(lines)

    async def read() -> list[LogEntry]:
        existing = ExistingEntries(log, CONTAINER, LogOptions(follow=True, tail_lines=0))
        assert [] == await received_of(existing, is_damaged=False)
        log.lines = [*lines, *entries(size, size + 2)]
        return await received_of(existing)

    assert [size, size + 1] == numbers(asyncio.run(read()))


@pytest.mark.parametrize("written", [30, 80, 150])
def test_a_tail_that_meets_damage_goes_on_behind_what_it_has_delivered_however_much_is_written(written: int) -> None:
    class Damaged(Lines):
        async def existing(
            self, tail: int | None = None, until_ns: int | None = None
        ) -> AsyncGenerator[list[RawEntry], None]:
            async with aclosing(super().existing(tail, until_ns)) as batches:
                async for batch in batches:
                    if self.delivered and len(self.lines) == 200:
                        self.lines[180:180] = [None]
                        self.lines += entries(200, 200 + written, size=16384)
                        raise LogUnreadableError("damaged")
                    yield batch

        delivered = False

    log = Damaged(entries(0, 200, size=16384))

    async def read() -> list[LogEntry]:
        got: list[LogEntry] = []
        existing = ExistingEntries(log, CONTAINER, LogOptions(tail_lines=100))
        async with aclosing(existing.batches()) as batches:
            with suppress(LogUnreadableError):
                async for batch in batches:
                    got += batch
                    log.delivered = len(got) >= 50
        return got

    got = asyncio.run(read())
    assert list(range(100, 200 + written)) == numbers(got)
    assert [180] == [number for number, entry in zip(numbers(got), got, strict=True) if entry.gap]


def growing(engine: type[Lines], lines: list[RawEntry | None], requests: int) -> Lines:
    """A log that grows by an entry at every ``requests``-th reading."""

    class Growing(engine):  # type: ignore[valid-type,misc]
        async def existing(
            self, tail: int | None = None, until_ns: int | None = None
        ) -> AsyncGenerator[list[RawEntry], None]:
            self.requests += 1
            if self.requests % requests == 0:
                self.lines += entries(len(self.lines), len(self.lines) + 1)
            async with aclosing(super().existing(tail, until_ns)) as batches:
                async for batch in batches:
                    yield batch

        requests = 0

    return Growing(lines)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("requests", [1, 2, 3, 4, 5, 10])
def test_entries_that_are_missing_are_a_gap_however_fast_the_log_grows(engine: type[Lines], requests: int) -> None:
    log = growing(engine, [*entries(0, 20), None, *entries(21, 60)], requests)
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions())))
    steps = [after - before for before, after in pairwise([-1, *numbers(got)])]
    assert {1} < set(steps)
    assert [step != 1 for step in steps] == [entry.gap for entry in got]
    assert 59 in numbers(got)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("requests", [10, 20])
def test_all_before_a_damaged_end_comes_though_the_log_grows(engine: type[Lines], requests: int) -> None:
    log = growing(engine, [*entries(0, 60), None], requests)
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions())))
    assert list(range(60)) == numbers(got)[:60]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("requests", range(2, 24))
def test_nothing_up_to_the_cursor_comes_again_if_the_log_grows_behind_damage(
    engine: type[Lines], requests: int
) -> None:
    """The cursor is the last entry before the damage."""
    lines = [*entries(0, 20), None, *entries(20, 40), None, *entries(40, 42)]
    whole = asyncio.run(received_of(ExistingEntries(Lines(lines, 0), CONTAINER, LogOptions())))
    (last,) = [entry for entry in whole if numbers([entry]) == [39]]
    options = LogOptions(after=position_of(last.cursor.decode()))
    got = numbers(asyncio.run(received_of(ExistingEntries(growing(engine, lines, requests), CONTAINER, options))))
    assert not {*range(40)} & {*got}
    assert sorted(set(got)) == got


@pytest.mark.parametrize("passed_over", [0, 1, 3])
@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("behind", range(12))
def test_of_equal_pieces_around_damage_no_more_are_lost_than_the_engine_passes_over(
    before: int, behind: int, passed_over: int
) -> None:
    """Nothing tells those before the damage from those that the engine passes over."""
    piece = (100, LogSource.STDOUT, b"100", True)
    around = [*[piece] * before, None, *[piece] * behind]
    log = Lines([*entries(0, 4), *around, *entries(101, 111)], passed_over)
    got = asyncio.run(received_of(ExistingEntries(log, CONTAINER, LogOptions())))
    read_before = before - min(before, behind, passed_over)
    assert [*range(4), *[100] * (read_before + behind), *range(101, 111)] == numbers(got)
    assert [4 + read_before] == [at for at, entry in enumerate(got) if entry.gap]
