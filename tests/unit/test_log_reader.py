"""A stream of a container's log without following, on an engine in memory, and all errors at its start."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from container_manager.engine.log_frames import STEP_BYTES
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineAccessDeniedError,
    EngineUnavailableError,
    InvalidStateError,
)
from container_manager.logs.cursor import position_of
from container_manager.logs.existing import MAX_BATCH_ENTRIES, LogOptions
from container_manager.model import RawEntry
from tests.support.virtual_loop import run
from tests.unit.log_engine import SECOND, LogEngine, frame, raw
from tests.unit.log_reading import LINES, LONG, MANY, WRITTEN, read, reading, texts

# Without following


def test_everything_there_is_and_then_the_end() -> None:
    engine = LogEngine(LONG)
    got = read(engine)
    assert [entry[1:] for entry in LONG] == [entry[1:4] for entry in got]
    # Before anything is delivered, two requests that read no further than an entry check that nothing is left out.
    assert [None, str(len(LONG)), str(len(LONG) + 1)] == [request.get("tail") for request in engine.requests]


def test_more_than_a_reader_holds_is_read_again_once_it_is_checked() -> None:
    engine = LogEngine(MANY)
    assert texts(MANY) == texts(read(engine))
    assert [None, str(len(MANY)), str(len(MANY) + 1), None] == [request.get("tail") for request in engine.requests]


def test_of_many_short_entries_no_more_is_held_than_of_long_ones() -> None:
    engine = LogEngine([raw(number * SECOND, b"") for number in range(20_000)])
    assert 20_000 == len(read(engine))
    assert 2 == sum("tail" not in request for request in engine.requests)


@pytest.mark.parametrize("begins", ["at a tail", "after a cursor"])
def test_the_end_of_a_long_log_is_sent_once(begins: str) -> None:
    entries = [raw(number * SECOND, b"%d" % number) for number in range(20_000)]
    whole = read(LogEngine(entries))
    after = position_of(whole[-1001].cursor.decode())
    engine = LogEngine(entries)
    engine.chunk_bytes = len(frame(entries[-1]))
    rest = read(engine, tail_lines=1000) if begins == "at a tail" else read(engine, after=after)
    assert whole[-1000:] == rest
    # A tail begins with some more entries, in which its first line may begin; a cursor is in the last 2500 entries.
    read_once = 1000 + 256 if begins == "at a tail" else 2500
    assert read_once <= engine.sent_bytes / engine.chunk_bytes <= read_once + 10


def test_reading_after_an_entry_gives_exactly_the_rest() -> None:
    whole = read(LogEngine(LONG))
    for at, entry in enumerate(whole):
        assert whole[at + 1 :] == read(LogEngine(LONG), after_ns=entry.time_ns)
        assert whole[at + 1 :] == read(LogEngine(LONG), after=position_of(entry.cursor.decode()))


def test_little_more_than_what_follows_the_entry_is_read() -> None:
    entries = [raw(number * SECOND, b"%d" % number) for number in range(20_000)]
    whole = read(LogEngine(entries))
    for behind, windows in [(0, [100]), (98, [100]), (99, [100, 500]), (2_498, [100, 500, 2_500])]:
        engine = LogEngine(entries)
        engine.chunk_bytes = 1000
        rest = read(engine, after=position_of(whole[-1 - behind].cursor.decode()))
        assert whole[len(whole) - behind :] == rest
        assert windows == [int(request["tail"]) for request in engine.requests]
        # The first bytes of too few entries show that they are.
        most = windows[-1] * len(frame(entries[-1])) + 4 * engine.chunk_bytes * len(windows)
        assert engine.sent_bytes <= most


def test_a_clock_that_was_set_back_costs_no_more_than_reading_the_whole_log() -> None:
    entries = [raw(number * SECOND, b"%d" % number) for number in range(20_000)]
    entries += [raw(-3600 * SECOND + number, b"back %d" % number) for number in range(200)]
    whole = read(LogEngine(entries))
    engine = LogEngine(entries)
    assert whole[20_100:] == read(engine, after=position_of(whole[20_099].cursor.decode()))
    assert [100, 500] == [int(request.get("tail", 0)) for request in engine.requests][:2]
    assert sum("tail" not in request for request in engine.requests) <= 2


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_a_tail_has_the_last_entries(count: int) -> None:
    assert read(LogEngine(LINES))[-count:] == read(LogEngine(LINES), tail_lines=count)


def test_a_tail_that_begins_within_a_long_line_begins_with_the_line() -> None:
    whole = read(LogEngine(LONG))
    for count in (1, 2, 3):
        assert whole[-3:] == read(LogEngine(LONG), tail_lines=count)
    assert whole[-4:] == read(LogEngine(LONG), tail_lines=4)


@pytest.mark.parametrize("before", [0, 3, 50])
@pytest.mark.parametrize("behind", [0, 1, 3])
def test_a_tail_that_begins_within_a_long_line_repeats_no_piece_up_to_the_cursor(before: int, behind: int) -> None:
    entries = [*LONG[50 - before :], *WRITTEN[:behind]]
    whole = read(LogEngine(entries))
    first_piece, last_piece = before, before + 2
    for at, count in product(range(len(whole)), range(1, behind + 6)):
        begin = len(whole) - count
        begin = first_piece if first_piece <= begin <= last_piece else max(begin, 0)
        after = position_of(whole[at].cursor.decode())
        assert whole[max(at + 1, begin) :] == read(LogEngine(entries), tail_lines=count, after=after)


def test_a_tail_after_an_entry_has_only_later_entries() -> None:
    whole = read(LogEngine(LINES))
    assert whole[-5:] == read(LogEngine(LINES), tail_lines=5, after_ns=whole[10].time_ns)
    assert whole[-3:] == read(LogEngine(LINES), tail_lines=5, after_ns=whole[-4].time_ns)
    assert [] == read(LogEngine(LINES), tail_lines=5, after_ns=whole[-1].time_ns)


def test_a_tail_of_an_empty_log_and_no_tail_at_all() -> None:
    assert [] == read(LogEngine(), tail_lines=5)
    assert [] == read(LogEngine(), tail_lines=0)
    assert [] == read(LogEngine(LINES), tail_lines=0)


def test_the_limit_ends_the_stream_before_the_entry_that_is_too_much() -> None:
    sizes = [len(text) for text in texts(LINES)]
    for limit, count in [(sum(sizes[:3]), 3), (sum(sizes[:3]) - 1, 2), (1, 0), (sum(sizes), 100), (10**9, 100)]:
        assert count == len(read(LogEngine(LINES), limit_bytes=limit))
        assert count == len(read(LogEngine(LINES), limit_bytes=limit, follow=limit < sum(sizes)))


@pytest.mark.parametrize("limit", range(1, 40, 3))
def test_the_limit_falls_within_a_batch_also_among_empty_lines(limit: int) -> None:
    entries = [raw(number * SECOND, b"x" * (number % 5)) for number in range(20)]
    fitting = [entry for number, entry in enumerate(entries) if sum(map(len, texts(entries[: number + 1]))) <= limit]
    assert texts(fitting) == texts(read(LogEngine(entries), limit_bytes=limit))


# Batches


def test_a_batch_has_what_is_ready_up_to_a_bound() -> None:
    """Whether the entries are long or short: other calls wait for a batch at most."""

    async def test(entries: list[RawEntry]) -> list[int]:
        engine = LogEngine(entries)
        engine.chunk_bytes = 1 << 20
        async with reading(engine, LogOptions()) as it:
            await it.task
        assert texts(entries) == texts(it.got)
        return [len(batch) for batch in it.batches]

    entries = [raw(number * SECOND, b"x" * 60) for number in range(1000)]
    per_batch = STEP_BYTES // len(frame(entries[0]))
    assert {per_batch, per_batch + 1} == set(run(test(entries))[:-1])
    assert max(run(test([raw(number * SECOND, b"") for number in range(1000)]))) <= MAX_BATCH_ENTRIES


@pytest.mark.parametrize("follow", [False, True])
def test_a_batch_does_not_wait_for_an_entry_that_has_come_in_part(follow: bool) -> None:
    """The engine stops in the middle of a frame."""

    async def test() -> None:
        engine = LogEngine(MANY)
        engine.chunk_bytes = len(frame(LINES[0])) + 20
        hold, engine.hold_from = asyncio.Event(), 3
        engine.hold_after = hold
        async with reading(engine, LogOptions(follow=follow)) as it:
            await it.has(1)
            assert [LINES[:1][0][2]] == texts(it.got)
            hold.set()
            await it.has(len(MANY))

    run(test())


def test_a_reading_that_is_given_up_within_a_batch_leaves_nothing_open() -> None:
    async def test() -> None:
        engine = LogEngine([raw(number * SECOND) for number in range(20_000)])
        engine.chunk_bytes = 1 << 20
        async with reading(engine, LogOptions()) as it:
            it.pause()
            await it.has(1)
            assert 1 == engine.open_streams
        assert (1, 0) == (len(it.batches), engine.open_streams)

    run(test())


# Errors


@pytest.mark.parametrize("options", [{}, {"follow": True}, {"tail_lines": 3}, {"tail_lines": 0}])
@pytest.mark.parametrize(
    ("rejection", "expected", "text"),
    [
        (EngineRejectedError(404, "No such container: c1"), ContainerNotFoundError, "No such container"),
        (EngineRejectedError(501, "configured logging driver does not support reading"), InvalidStateError, "driver"),
        (EngineRejectedError(500, "configured logging driver does not support reading"), InvalidStateError, "driver"),
        (EngineRejectedError(409, "container which is dead or marked for removal"), InvalidStateError, "dead"),
        (EngineRejectedError(500, "boom"), EngineUnavailableError, "boom"),
        (EngineAccessDeniedError("no"), EngineAccessDeniedError, "no"),
        (EngineUnavailableError("away"), EngineUnavailableError, "away"),
    ],
)
def test_an_error_at_the_start_reaches_the_caller(
    options: dict[str, Any], rejection: Exception, expected: type[Exception], text: str
) -> None:
    for on_inspect in (True, False):
        engine = LogEngine(LINES)
        if on_inspect:
            engine.rejection = rejection
        else:
            engine.log_rejection = rejection
        with pytest.raises(expected, match=text) as caught:
            read(engine, **options)
        assert type(caught.value) is expected


def test_without_following_a_lost_engine_is_an_error_after_the_entries() -> None:
    async def test() -> None:
        engine = LogEngine(MANY)
        engine.cuts = [None, None, None, len(frame(LINES[0])) + 20]
        async with reading(engine, LogOptions()) as it:
            with pytest.raises(EngineUnavailableError):
                await it.task
        assert [b"line 0"] == texts(it.got)

    run(test())


FAULT = b"\x03\0\0\0\0\0\0\x0eError grabbing"


def test_a_log_that_the_engine_cannot_read_is_an_error_after_what_it_can() -> None:
    async def test() -> None:
        engine = LogEngine(LINES)
        engine.mangle = lambda data: data + FAULT
        async with reading(engine, LogOptions()) as it:
            with pytest.raises(EngineUnavailableError, match="Error grabbing"):
                await it.task
        assert texts(LINES) == texts(it.got)

    run(test())


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("at", [0, 1, 50, 98, 99])
def test_all_but_an_entry_of_an_impossible_time_comes(at: int, follow: bool) -> None:
    async def test() -> None:
        engine = LogEngine(LINES)
        odd = frame(LINES[at])
        engine.mangle = lambda data: data.replace(odd, odd.replace(b"2023-11-14T", b"0000-01-01T"))
        async with reading(engine, LogOptions(follow=follow)) as it:
            await it.has(99)
            assert texts([*LINES[:at], *LINES[at + 1 :]]) == texts(it.got)
            await asyncio.sleep(100)
            assert follow != it.task.done()
            if not follow:
                with pytest.raises(EngineUnavailableError, match="impossible time: 0000-01-01T"):
                    await it.task

    run(test())


@pytest.mark.parametrize("runs", [False, True])
def test_a_follower_waits_at_an_end_that_the_engine_cannot_read(runs: bool) -> None:
    async def test() -> None:
        engine = LogEngine(LINES[:50])
        engine.runs = runs
        engine.mangle = lambda data: data + FAULT
        async with reading(engine) as it:
            await it.has(50)
            await asyncio.sleep(100)
            await engine.write(*LINES[50:])
            await engine.change()
            await it.has(100)
            assert texts(LINES) == texts(it.got)

    run(test())


def test_a_follower_of_a_log_of_which_the_engine_can_read_nothing_ends_with_its_error() -> None:
    async def test() -> None:
        engine = LogEngine()
        engine.mangle = lambda data: data + FAULT
        async with reading(engine) as it:
            with pytest.raises(EngineUnavailableError, match="Error grabbing"):
                await it.task

    run(test())


@pytest.mark.parametrize("follow", [False, True])
def test_entries_that_the_engine_drops_between_its_check_and_the_reading_are_a_gap(follow: bool) -> None:
    async def test() -> None:
        engine = LogEngine(MANY)

        def mangle(data: bytes) -> bytes:
            # The third request is the last one of the check.
            if len(engine.requests) == 3 and engine.dropped == 0:
                engine.drop(10)
            return data

        engine.mangle = mangle
        async with reading(engine, LogOptions(follow=follow)) as it:
            await it.has(len(MANY) - 10)
            assert texts(MANY[10:]) == texts(it.got)
            assert [True, False] == [entry.gap for entry in it.got[:2]]

    run(test())


def test_a_tail_of_a_log_that_grows_between_its_check_and_the_reading_has_no_gap() -> None:
    long = MANY[len(LINES) :]
    engine = LogEngine()

    def mangle(data: bytes) -> bytes:
        if len(engine.requests) == 1:
            engine.entries += long
        elif len(engine.requests) == 2:
            engine.entries.append(raw(1000 * SECOND))
        return data

    # The first request shows an empty log, so the tail's first entry is not looked for.
    engine.mangle = mangle
    got = read(engine, tail_lines=len(long))
    assert texts([*long[1:], raw(0)]) == texts(got)
    assert not any(entry.gap for entry in got)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("decoded", [0, 1, 50])
def test_an_answer_that_is_not_in_frames_as_a_terminals_log_is_refused(decoded: int, follow: bool) -> None:
    engine = LogEngine(LINES)
    begin = b"".join(map(frame, LINES[:decoded]))
    engine.mangle = lambda data: begin + b"?" * (len(data) - len(begin))
    with pytest.raises(ContainerManagerError, match="not in the engine's frames") as caught:
        read(engine, follow=follow)
    assert "INVALID_STATE" == caught.value.reason


def test_what_is_not_in_frames_ends_a_followed_log_too() -> None:
    async def test() -> None:
        engine = LogEngine(LINES[:50])
        async with reading(engine) as it:
            await engine.until(lambda: engine.open_streams == 1 and len(it.got) == 50)
            await asyncio.sleep(1)
            engine.mangle = lambda data: b"?" * len(data)
            await engine.write(*LINES[50:])
            with pytest.raises(ContainerManagerError, match="not in the engine's frames"):
                await it.task
        assert texts(LINES[:50]) == texts(it.got)

    run(test())
