"""An entry's cursor continues exactly after that entry, whatever the times of the entries and whatever was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.logs.cursor import CLOCK_STEP_NS, Placing, Position, container_key, position_of
from container_manager.logs.seeking import MARGIN_NS
from container_manager.model import LogEntry, RawEntry
from tests.unit.log_engine import BEGIN_NS, CONTAINER, ERR, OUT, SECOND, LogEngine, raw
from tests.unit.log_reading import read, texts

STEPS = [0, 0, 0, 1, 2, 1000, SECOND // 2, 5 * SECOND, 3600 * SECOND, 10**18]
STEPS += [-1, -1000, -SECOND // 3, -5 * SECOND, -CLOCK_STEP_NS - 1, -3600 * SECOND, -(10**18)]


def after(entry: LogEntry) -> Position:
    return position_of(entry.cursor.decode())


@st.composite
def logs(draw: st.DrawFn, steps: Sequence[int] = STEPS) -> list[RawEntry]:
    """Entries as the engine stores them: of any time, equal times, lines in pieces, some of them equal."""
    entries: list[RawEntry] = []
    time_ns = 0
    for number in range(draw(st.integers(0, 30))):
        time_ns += draw(st.sampled_from(steps))
        source = draw(st.sampled_from([OUT, ERR]))
        count = draw(st.integers(0, 3))
        if draw(st.booleans()):
            pieces = [b"%d|" % number * 9] * count + [b"%d|" % number * 3]
        else:
            pieces = [b"%d.%d" % (number, piece) for piece in range(count)] + [b"end of %d" % number]
        entries += [raw(time_ns, piece, source, partial=True) for piece in pieces[:-1]]
        entries.append(raw(time_ns, pieces[-1], source))
    return entries


@given(logs(), st.data())
def test_after_any_cursor_exactly_the_rest_is_read(entries: list[RawEntry], data: st.DataObject) -> None:
    whole = read(LogEngine(entries))
    assert [entry[1:] for entry in entries] == [entry[1:4] for entry in whole]
    assert len(entries) == len({entry.cursor for entry in whole})
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        rest = read(LogEngine(entries), after=after(whole[at]))
        assert whole[at + 1 :] == rest


@given(logs(), st.integers(0, 150), st.data())
def test_in_a_longer_log_too_and_in_what_the_engine_has_kept(
    entries: list[RawEntry], behind: int, data: st.DataObject
) -> None:
    """The entries are so far from the end that more than one reading is needed."""
    later = [raw(10**15 + number, b"later %d" % number) for number in range(behind)]
    whole = read(LogEngine([*entries, *later]))
    if not entries:
        return
    at = data.draw(st.integers(0, len(entries) - 1))
    cut = data.draw(st.integers(0, len(entries) + behind - 1))
    rest = read(LogEngine([*entries, *later][cut:]), after=after(whole[at]))
    # Its line may have been cut: nobody can say which of its equal pieces is meant.
    is_cut = 0 < cut < len(entries) and entries[cut][0] == entries[at][0] and b"|" in entries[at][2]
    if rest and rest[0].gap:
        assert [entry[2] for entry in [*entries, *later][cut:]] == texts(rest)
        assert not any(entry.gap for entry in rest[1:])
        assert at < cut or is_cut
    elif at >= cut:
        assert whole[at + 1 :] == rest or (is_cut and texts(whole)[len(whole) - len(rest) :] == texts(rest))
    else:
        # The last of equal pieces is taken for the one that was dropped: nothing in the log tells them apart.
        assert entries[at] == entries[cut] == entries[cut - 1]


def test_equal_lines_of_equal_times_are_told_apart_by_what_was_before() -> None:
    """The clock is set back again and again, to the same nanosecond."""
    entries = []
    for number in range(9):
        entries += [raw(number * SECOND, b"tick"), raw(3600 * SECOND, b"ahead"), raw(0, b"back")]
    whole = read(LogEngine(entries))
    for at in range(1, len(entries), 3):
        assert whole[at + 1 :] == read(LogEngine(entries), after=after(whole[at]))


def test_a_line_of_different_pieces_that_the_engine_has_cut_is_continued_exactly() -> None:
    entries = [
        raw(0, b"before"),
        *(raw(SECOND, b"piece %d" % number, partial=True) for number in range(9)),
        raw(SECOND),
    ]
    whole = read(LogEngine(entries))
    for cut in range(1, len(entries)):
        for at in range(cut, len(entries)):
            assert whole[at + 1 :] == read(LogEngine(entries[cut:]), after=after(whole[at]))


def test_of_equal_pieces_that_the_engine_has_cut_all_are_read_again_with_a_gap() -> None:
    entries = [raw(0, b"before"), *([raw(SECOND, b"x" * 99, partial=True)] * 9), raw(SECOND, b"xxx"), raw(2 * SECOND)]
    whole = read(LogEngine(entries))
    for cut in range(2, 10):
        for at in range(1, 10):
            rest = read(LogEngine(entries[cut:]), after=after(whole[at]))
            assert (texts(entries[cut:]), True) == (texts(rest), rest[0].gap)


@pytest.mark.parametrize("tail", [None, 3, 5, 9])
def test_after_an_entry_that_was_dropped_the_oldest_one_follows_with_a_gap(tail: int | None) -> None:
    entries = [raw(number * SECOND, b"%d" % number) for number in range(10)]
    whole = read(LogEngine(entries))
    kept = entries[max(5, 10 - (tail or 10)) :]
    for at in range(5):
        rest = read(LogEngine(entries[5:]), after=after(whole[at]), tail_lines=tail)
        assert texts(kept) == texts(rest)
        assert [True, *[False] * (len(kept) - 1)] == [entry.gap for entry in rest]


def test_after_an_entry_of_a_former_container_all_follows_with_a_gap() -> None:
    entries = [raw(number * SECOND, b"%d" % number) for number in range(3)]
    former = Placing(container_key("another")).place(entries)[1]
    rest = read(LogEngine(entries), after=after(former))
    assert (texts(entries), [True, False, False]) == (texts(rest), [entry.gap for entry in rest])


@pytest.mark.parametrize("tail", [0, 1, 5, 6, 9, 10, 1000])
def test_of_a_tail_what_is_after_a_cursor(tail: int) -> None:
    whole = read(LogEngine([raw(number * SECOND, b"%d" % number) for number in range(10)]))
    engine = LogEngine([entry[:4] for entry in whole])
    for at in range(10):
        assert whole[max(at + 1, 10 - tail) :] == read(engine, after=after(whole[at]), tail_lines=tail)


@pytest.mark.parametrize("tail", [1, 2, 5, 20])
def test_of_a_tail_what_is_after_a_cursor_if_the_first_entries_of_its_time_were_dropped(tail: int) -> None:
    whole = read(LogEngine([raw(0, b"before"), *(raw(SECOND, b"%d" % number) for number in range(9))]))
    engine = LogEngine([raw(SECOND, entry.line) for entry in whole[3:]])
    for at in range(3, 10):
        rest = read(engine, after=after(whole[at]), tail_lines=tail)
        assert texts(whole[max(at + 1, 10 - tail) :]) == texts(rest)
        assert not any(entry.gap for entry in rest)


def test_a_tail_that_leaves_out_what_follows_a_cursor_is_read_with_three_requests() -> None:
    engine = LogEngine([raw(number * SECOND, b"%d" % number) for number in range(500)])
    cursor = after(read(engine)[450])
    engine.requests.clear()
    assert [b"498", b"499"] == texts(read(engine, after=cursor, tail_lines=2))
    assert ["100", "2", "258"] == [request["tail"] for request in engine.requests]


# Times


@given(logs([step for step in STEPS if step >= 0] + [-1, -1000, -SECOND // 3]))
def test_times_are_unique_and_grow_unless_the_clock_is_set(entries: list[RawEntry]) -> None:
    times = [entry.time_ns for entry in read(LogEngine(entries))]
    assert sorted(set(times)) == times
    assert all(0 <= shown - entry[0] <= CLOCK_STEP_NS for shown, entry in zip(times, entries, strict=True))


@given(logs([step for step in STEPS if step >= 0] + [-1, -1000, -SECOND // 3]), st.data())
def test_after_any_time_exactly_the_rest_is_read_unless_the_clock_is_set(
    entries: list[RawEntry], data: st.DataObject
) -> None:
    whole = read(LogEngine(entries))
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        assert whole[at + 1 :] == read(LogEngine(entries), after_ns=whole[at].time_ns)
        time_ns = data.draw(st.integers(BEGIN_NS, whole[-1].time_ns + SECOND))
        late = [entry for entry in whole if entry.time_ns > time_ns]
        assert late == read(LogEngine(entries), after_ns=time_ns)


@pytest.mark.parametrize("step", [CLOCK_STEP_NS + 1, 3600 * SECOND])
def test_after_a_clock_was_set_back_entries_show_their_own_times(step: int) -> None:
    entries = [raw(number * SECOND) for number in (0, 1, 2)]
    entries += [raw(2 * SECOND - step + number * SECOND) for number in (0, 1, 2)]
    assert [entry[0] for entry in entries] == [entry.time_ns for entry in read(LogEngine(entries))]


def test_the_margin_is_more_than_the_step() -> None:
    """Otherwise the time of an entry could depend on one that is not read."""
    assert MARGIN_NS > CLOCK_STEP_NS


# Tails


@given(logs(), st.integers(1, 60))
def test_a_tail_is_the_last_entries_and_the_begin_of_their_first_line(entries: list[RawEntry], count: int) -> None:
    tail = read(LogEngine(entries), tail_lines=count)
    whole = read(LogEngine(entries))
    assert whole[len(whole) - len(tail) :] == tail
    begin = max(len(entries) - count, 0)
    if entries:
        same = [at for at, entry in enumerate(entries[: begin + 1]) if entry[:2] == entries[begin][:2]]
        while len(same) > 1 and entries[same[-2]][3]:
            same.pop()
        # Of lines that are equal in all, it may begin with an earlier one.
        assert same[-1] >= len(entries) - len(tail)
        assert same[-1] == len(entries) - len(tail) or entries.count(entries[begin]) > 1


# Cursors


@given(st.text(max_size=60) | st.text("0123456789abcdef", min_size=40, max_size=60))
def test_a_text_is_the_cursor_of_an_entry_or_is_refused(text: str) -> None:
    position = None
    with suppress(ValueError):
        position = position_of(text)
    assert position is None or 0 <= position.shown_ns - position.engine_ns


@pytest.mark.parametrize("digit", "0123456789abcdef")
@pytest.mark.parametrize("shifted", [False, True])
def test_a_changed_cursor_is_refused_or_followed_by_cursors(digit: str, shifted: bool) -> None:
    """Whichever digits of it are changed, before the next piece of the line and before the next line."""
    entries = [raw(SECOND), raw(0), raw(0), raw(0)] if shifted else [raw(0), raw(0), raw(0)]
    cursor = Placing(container_key(CONTAINER)).place(entries)[-2].cursor.decode()
    for begin, end in combinations(range(len(cursor) + 1), 2):
        changed = cursor[:begin] + digit * (end - begin) + cursor[end:]
        try:
            position = position_of(changed)
        except ValueError:
            continue
        following = [(position.engine_ns, OUT, b"next", False), raw(0), raw(0)]
        for entry in Placing(container_key(CONTAINER), position).place(following):
            assert after(entry).is_of(entry.source, entry.line)


@pytest.mark.parametrize("year", [1, 1969, 1970, 2262, 2263, 9999])
def test_cursors_are_exact_in_every_year_of_a_timestamp(year: int) -> None:
    second = (year - 1) * 365 * 86_400 - 62_135_596_800
    entries: list[RawEntry] = [(second * SECOND + nanos, OUT, b"line", False) for nanos in (0, 1, SECOND - 1)]
    placing = Placing(container_key(CONTAINER))
    for entry, given_ in zip(placing.place(entries), entries, strict=True):
        position = after(entry)
        assert (given_[0], True) == (position.engine_ns, position.is_of(OUT, b"line"))
        assert not position.is_of(ERR, b"line")
        assert (True, 51) == (entry.cursor.isalnum(), len(entry.cursor))
    assert placing.last == position
