"""An entry's position in the log, and readings that start or resume at one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.logs.cursor import CLOCK_STEP_NS, MARGIN_NS, Window
from container_manager.model import LogEntry, RawEntry
from tests.unit.log_engine import BEGIN_NS, ERR, OUT, SECOND, engine_answer, raw

LATER_NS = BEGIN_NS + 10**15  # "now" in tests that do not depend on it


def read(
    entries: Sequence[RawEntry],
    after_ns: int | None = None,
    first: RawEntry | None = None,
    *,
    from_first: bool = False,
    now_ns: int = LATER_NS,
) -> list[LogEntry]:
    """The entries of a reading, with an engine that leaves out entries as requested."""
    window = Window(after_ns, first)
    return window.select(engine_answer(entries, window.since_ns(now_ns), from_first=from_first)) + window.release()


def first_of_tail(entries: Sequence[RawEntry], count: int) -> RawEntry | None:
    tail = engine_answer(entries, None, count)
    return tail[0] if tail else None


@st.composite
def logs(draw: st.DrawFn) -> list[RawEntry]:
    """Entries as the engine stores them: equal times, lines in pieces, some out of order; the clock is never set."""
    entries: list[RawEntry] = []
    newest = 0
    for number in range(draw(st.integers(0, 30))):
        later = draw(
            st.sampled_from([0, 0, 1, 2, 1000, SECOND // 2, SECOND, 5 * SECOND, 9 * SECOND, MARGIN_NS, 10**12])
        )
        back = draw(st.sampled_from([0, 0, 0, 1, 1000, SECOND // 3, SECOND, 2 * SECOND, CLOCK_STEP_NS - 1000]))
        newest += later
        time_ns = newest if back == 0 else max(newest - back, 0)
        source = draw(st.sampled_from([OUT, ERR]))
        pieces = draw(st.integers(1, 3))
        texts = [b"%d.%d" % (number, piece) for piece in range(pieces)]
        entries += [raw(time_ns, text, source, partial=True) for text in texts[:-1]]
        entries.append(raw(time_ns, texts[-1], source))
    return entries


# The first reading sees every entry; the tests compare the others with it.


@given(logs())
def test_places_are_unique_and_grow_and_change_nothing_else(entries: Sequence[RawEntry]) -> None:
    placed = read(entries)
    assert [entry[1:] for entry in entries] == [entry[1:] for entry in placed]
    times = [entry.time_ns for entry in placed]
    assert sorted(set(times)) == times
    assert all(0 <= entry.time_ns - given[0] < 2 * CLOCK_STEP_NS for entry, given in zip(placed, entries, strict=True))


@given(logs(), st.booleans(), st.data())
def test_going_on_after_any_entry_gives_exactly_the_rest(
    entries: Sequence[RawEntry], from_first: bool, data: st.DataObject
) -> None:
    placed = read(entries)
    at = data.draw(st.integers(0, len(placed)))
    rest = read(entries, placed[at - 1].time_ns if at else 0, from_first=from_first)
    assert placed[at:] == rest
    # And again from there.
    if rest:
        assert placed[at + 1 :] == read(entries, rest[0].time_ns, from_first=from_first)


@given(logs(), st.booleans(), st.data())
def test_going_on_after_a_time_gives_all_entries_after_it(
    entries: Sequence[RawEntry], from_first: bool, data: st.DataObject
) -> None:
    newest = max((entry[0] for entry in entries), default=BEGIN_NS)
    after_ns = data.draw(st.integers(BEGIN_NS, newest + SECOND))
    assert [entry for entry in read(entries) if entry.time_ns > after_ns] == read(
        entries, after_ns, from_first=from_first
    )


@given(logs(), st.booleans(), st.data())
def test_going_on_is_exact_too_where_the_engine_has_dropped_the_begin(
    entries: Sequence[RawEntry], from_first: bool, data: st.DataObject
) -> None:
    """If the dropped start is older than the margin."""
    placed = read(entries)
    at = data.draw(st.integers(0, len(placed)))
    after_ns = placed[at - 1].time_ns if at else 0
    window = Window(after_ns)
    kept = engine_answer(entries, window.since_ns(LATER_NS))
    assert placed[at:] == read(kept, after_ns, from_first=from_first)


@given(logs(), st.integers(1, 40), st.booleans())
def test_a_tail_is_the_last_entries_and_the_begin_of_their_first_line(
    entries: Sequence[RawEntry], count: int, from_first: bool
) -> None:
    placed = read(entries)
    begin = max(len(entries) - count, 0)
    while begin and entries[begin][:2] == entries[begin - 1][:2]:
        begin -= 1
    tail = read(entries, first=first_of_tail(entries, count), from_first=from_first)
    # Entries of the same time and source may have others between them.
    same = next((at for at, entry in enumerate(entries) if entry[:2] == entries[begin][:2]), 0)
    assert tail in (placed[begin:], placed[same:])
    assert len(tail) >= min(count, len(entries))


@given(logs(), st.integers(1, 40), st.booleans(), st.data())
def test_of_a_tail_only_what_is_after_an_entry(
    entries: Sequence[RawEntry], count: int, from_first: bool, data: st.DataObject
) -> None:
    placed = read(entries)
    at = data.draw(st.integers(0, len(placed)))
    after_ns = placed[at - 1].time_ns if at else 0
    first = first_of_tail(entries, count)
    tail = read(entries, first=first)
    assert [entry for entry in tail if entry.time_ns > after_ns] == read(
        entries, after_ns, first, from_first=from_first
    )


def test_a_tail_whose_first_entry_is_dropped_meanwhile_begins_with_what_is_left() -> None:
    entries = [raw(number * 1000, b"%d" % number) for number in range(600)]
    gone = raw(-1)
    assert [b"%d" % number for number in range(600)] == [entry.line for entry in read(entries, first=gone)]
    assert [b"0", b"1"] == [entry.line for entry in read(entries[:2], first=gone)]


def test_entries_out_of_order_before_a_tail_do_not_belong_to_it() -> None:
    entries = [raw(0), raw(500, b"out of order", ERR), raw(400, b"first"), raw(450, b"later")]
    assert [b"first", b"later"] == [entry.line for entry in read(entries, first=first_of_tail(entries, 2))]


@pytest.mark.parametrize("step", [CLOCK_STEP_NS + 1, 3600 * SECOND])
def test_a_clock_that_is_set_back_starts_anew(step: int) -> None:
    entries = [raw(number * SECOND) for number in (0, 1, 2)]
    entries += [raw(2 * SECOND - step + number * SECOND) for number in (0, 1, 2)]
    placed = read(entries)
    assert [entry[0] for entry in entries] == [entry.time_ns for entry in placed]


def test_up_to_ten_seconds_back_cost_nothing_but_the_time_shown() -> None:
    entries = [raw(0), raw(CLOCK_STEP_NS), raw(0, b"set back"), raw(SECOND)]
    placed = read(entries)
    assert [BEGIN_NS, *(BEGIN_NS + CLOCK_STEP_NS + number for number in (0, 1, 2))] == [e.time_ns for e in placed]
    assert placed[2:] == read(entries, placed[1].time_ns)


def test_nothing_is_lost_while_the_clock_is_behind_the_place_to_go_on_from() -> None:
    entries = [raw(3600 * SECOND, b"before"), raw(0, b"set back"), raw(SECOND, b"later")]
    rest = read(entries, BEGIN_NS + 3600 * SECOND, now_ns=BEGIN_NS + 2 * SECOND)
    assert [b"set back", b"later"] == [entry.line for entry in rest]


def test_the_margin_is_more_than_the_step() -> None:
    """Otherwise the position of an entry could depend on one that the engine leaves out."""
    back = [raw(-CLOCK_STEP_NS - 1)] * 4
    entries = [raw(-5, b"first"), *back, raw(-5, b"last received"), raw(-5, b"next")]
    placed = read(entries)
    assert BEGIN_NS == placed[-2].time_ns
    assert placed[-1:] == read(entries, placed[-2].time_ns)


def test_nothing_is_held_back_for_a_tail_that_began_long_ago() -> None:
    window = Window(BEGIN_NS + 3600 * SECOND, raw(0))
    assert [b"next"] == [entry.line for entry in window.select([raw(3601 * SECOND, b"next")])]


def test_only_as_much_is_asked_for_as_is_needed() -> None:
    assert Window().since_ns(LATER_NS) is None
    assert Window(0).since_ns(LATER_NS) is None
    assert BEGIN_NS - MARGIN_NS == Window(BEGIN_NS).since_ns(LATER_NS)
    assert BEGIN_NS - MARGIN_NS == Window(first=raw(0)).since_ns(LATER_NS)
    assert BEGIN_NS + SECOND - MARGIN_NS == Window(BEGIN_NS, raw(SECOND)).since_ns(LATER_NS)
    assert BEGIN_NS + SECOND - MARGIN_NS == Window(BEGIN_NS + SECOND, raw(0)).since_ns(LATER_NS)
