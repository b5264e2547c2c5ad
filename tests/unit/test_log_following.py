"""Following a log: restarts, lost engines and ended streams neither lose nor repeat an entry."""

from __future__ import annotations

import asyncio
import time

import pytest

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.logs.existing import LogOptions
from container_manager.model import RawEntry
from tests.support.virtual_loop import virtual
from tests.unit.log_engine import OUT, SECOND, LogEngine, frame, raw
from tests.unit.log_reading import LINES, followed, reading, texts

WRITTEN = [raw((200 + number) * SECOND, b"written %d" % number) for number in range(50)]


async def a_while(seconds: float = 5) -> None:
    """Longer than any delay before another attempt."""
    await asyncio.sleep(seconds)


@virtual
async def test_what_there_is_comes_first_and_then_what_is_written_as_it_is_written() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        for number, entry in enumerate(WRITTEN, 101):
            await engine.write(entry)
            await it.has(number)
        await a_while()
        assert texts([*LINES, *WRITTEN]) == texts(it.got)
        assert (1, False) == (followed(engine), it.task.done())


@virtual
async def test_an_entry_that_is_written_alone_comes_alone_and_at_once() -> None:
    engine = LogEngine()
    async with reading(engine) as it:
        await engine.until(lambda: followed(engine) == 1)
        for number, entry in enumerate(WRITTEN, 1):
            await engine.write(entry)
            await it.has(number)
        assert [1] * len(WRITTEN) == [len(batch) for batch in it.batches]


@virtual
async def test_a_followed_log_that_is_silent_is_asked_for_once() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await a_while(1000)
        assert (1, 100, False) == (followed(engine), len(it.got), it.task.done())


@pytest.mark.parametrize(
    ("options", "before"),
    [
        (LogOptions(follow=True, tail_lines=0), []),
        (LogOptions(follow=True, tail_lines=3), LINES[-3:]),
        (LogOptions(follow=True, after_ns=LINES[-2][0]), LINES[-1:]),
    ],
)
@virtual
async def test_following_begins_where_it_is_asked_to(options: LogOptions, before: list[object]) -> None:
    engine = LogEngine(LINES)
    async with reading(engine, options) as it:
        await engine.until(lambda: followed(engine) == 1)
        await engine.write(*WRITTEN)
        await it.has(len(before) + len(WRITTEN))
        assert texts([*before, *WRITTEN]) == texts(it.got)  # type: ignore[list-item]


@virtual
async def test_the_limit_ends_a_followed_log_too() -> None:
    engine = LogEngine()
    async with reading(engine, LogOptions(follow=True, limit_bytes=25)) as it:
        await engine.write(*WRITTEN)
        await it.task
        assert texts(WRITTEN[:2]) == texts(it.got)


# Restarts and the end


@virtual
async def test_over_restarts_it_goes_on_where_it_was() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        for number, entry in enumerate(WRITTEN[:10], 1):
            await engine.stop()
            await engine.until(lambda: engine.open_streams == 0)
            await engine.write(entry)
            await engine.start()
            await it.has(100 + number)
        assert texts([*LINES, *WRITTEN[:10]]) == texts(it.got)
        assert followed(engine) >= 11
    # It requests little more than what is new.
    assert all(int(request["tail"]) <= 110 for request in engine.requests[4:])


@virtual
async def test_a_container_that_is_stopped_is_waited_for_without_asking() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.stop()
        await a_while()
        asked = len(engine.requests)
        await a_while(1000)
        assert (asked, 1, False) == (len(engine.requests), engine.waits, it.task.done())
        await engine.write(WRITTEN[0])
        await engine.start()
        await it.has(101)


@virtual
async def test_a_restart_that_nobody_is_told_of_is_found() -> None:
    """The engine has ended the stream, and the container runs again when it is inspected."""
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.stop(told=False)
        await engine.start(told=False)
        await engine.write(WRITTEN[0])
        await it.has(101)
        assert texts([*LINES, WRITTEN[0]]) == texts(it.got)


@virtual
async def test_it_ends_when_the_container_is_removed_with_all_that_it_wrote() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.write(*WRITTEN)
        await it.has(150)
        await engine.remove()
        await it.task
        assert texts([*LINES, *WRITTEN]) == texts(it.got)


@virtual
async def test_it_ends_when_a_container_is_removed_that_was_stopped_long_ago() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.stop()
        await a_while(1000)
        await engine.remove()
        await it.task


@pytest.mark.parametrize("removed", [False, True])
@virtual
async def test_a_container_that_is_said_to_be_gone_by_all_but_the_engine_is_asked_for_until_that_is_back(
    removed: bool,
) -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.lose()
        await engine.deny()
        await a_while(1000)
        assert not it.task.done()
        if removed:
            await engine.remove()
            await engine.come_back()
            await it.task
        else:
            await engine.come_back()
            await engine.find()
            await engine.write(WRITTEN[0])
            await it.has(101)
            assert not it.task.done()
            assert texts([*LINES, WRITTEN[0]]) == texts(it.got)


@virtual
async def test_a_container_that_is_said_to_be_gone_and_is_not_is_followed_on() -> None:
    """The view has lost it for a moment: an engine may deny a container that it has."""
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.deny()
        await engine.stop(told=False)
        await engine.write(WRITTEN[0])
        await it.has(101)
        await engine.start(told=False)
        await engine.find()
        await engine.write(WRITTEN[1])
        await it.has(102)
        assert (texts([*LINES, *WRITTEN[:2]]), False) == (texts(it.got), it.task.done())
        await engine.deny()
        await engine.remove()
        await it.task


@virtual
async def test_a_log_that_cannot_be_read_any_more_ends_it() -> None:
    """The container is dead or partly removed."""
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        engine.log_rejection = EngineRejectedError(409, "container which is dead or marked for removal")
        await engine.end_streams()
        await it.task


# Streams that break, end or fall silent while the container runs


@virtual
async def test_a_lost_engine_is_waited_for_and_nothing_is_lost() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        for number in range(1, 4):
            await engine.lose()
            await engine.until(lambda: engine.open_streams == 0)
            engine.entries.append(WRITTEN[number])
            await a_while(100)
            assert not it.task.done()
            await engine.come_back()
            await it.has(100 + number)
        assert texts([*LINES, *WRITTEN[1:4]]) == texts(it.got)


@pytest.mark.parametrize("bytes_", [1, 50, 100, 333, 4000])
@virtual
async def test_a_stream_that_is_cut_anywhere_is_taken_up_again(bytes_: int) -> None:
    engine = LogEngine(LINES)
    engine.cuts = [bytes_] * 3
    engine.chunk_bytes = 40
    async with reading(engine) as it:
        await it.has(100)
        assert texts(LINES) == texts(it.got)


@virtual
async def test_a_stream_that_ends_though_the_container_runs_is_asked_for_again_ever_later() -> None:
    engine = LogEngine(LINES)
    engine.ends_at_once = True
    async with reading(engine) as it:
        await it.has(100)
        await a_while(100)
        assert 40 < followed(engine) < 70
        engine.ends_at_once = False
        await engine.write(WRITTEN[0])
        await it.has(101)
        assert texts([*LINES, WRITTEN[0]]) == texts(it.got)


@virtual
async def test_a_stream_that_falls_silent_though_there_is_more_is_asked_for_again() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        engine.deaf = True
        await engine.write(*WRITTEN)
        await it.has(150)
        engine.deaf = False
        assert texts([*LINES, *WRITTEN]) == texts(it.got)
        assert 2 == followed(engine)


@virtual
async def test_lines_that_the_engine_repeats_come_once() -> None:
    """Engine 20.10 does so after it has lost the file that it follows."""
    now_ns = time.time_ns()
    late = [(now_ns + number * SECOND, OUT, b"late %d" % number, False) for number in range(1, 6)]
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await engine.write(*late)
        await it.has(105)
        engine.repeated = late[:3]
        await engine.change()
        await engine.until(lambda: engine.repeated == [] and followed(engine) == 2)
        await a_while()
        assert texts([*LINES, *late]) == texts(it.got)


@virtual
async def test_a_reader_that_leaves_leaves_nothing_open() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        assert 1 == engine.open_streams
    assert 0 == engine.open_streams


@virtual
async def test_a_reader_that_stops_reading_holds_only_what_was_sent() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        it.pause()
        await engine.write(*WRITTEN)
        await a_while()
        sent = engine.sent_bytes
        await engine.write(*(raw((300 + number) * SECOND, b"x" * 1000) for number in range(1000)))
        await a_while(100)
        assert sent == engine.sent_bytes


# An engine that is far behind may skip entries. It never does among those that exist when they are asked for.


@virtual
async def test_one_who_was_held_up_is_given_what_exists_before_following_goes_on() -> None:
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        it.pause()
        await engine.write(WRITTEN[0])
        await it.has(101)
        await a_while()
        assert 1 == followed(engine)
        it.go_on()
        await engine.until(lambda: followed(engine) == 2)
        await engine.write(*WRITTEN[1:])
        await it.has(150)
        assert texts([*LINES, *WRITTEN]) == texts(it.got)


@virtual
async def test_one_request_follows_a_megabyte_at_most() -> None:
    long = [raw((300 + number) * SECOND, b"%d" % number * 5000) for number in range(500)]
    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        for entry in long:
            await engine.write(entry)
            await asyncio.sleep(0.01)
        await it.has(600)
        assert texts([*LINES, *long]) == texts(it.got)
        assert sum(map(len, texts(long))) >> 20 <= followed(engine) <= 20


# An engine passes over entries that it cannot read, and intact ones behind them, also while it sends new ones.


@pytest.mark.parametrize("passed_over", [1, 2, 40])
@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("ends", [False, True])
@virtual
async def test_entries_that_the_engine_passes_over_are_a_gap_behind_the_next_pause(
    passed_over: int, readable: bool, ends: bool
) -> None:
    """``readable``: the engine shows them later, among the existing ones."""
    engine = LogEngine(LINES)

    def mangle(data: bytes) -> bytes:
        if not readable or engine.requests[-1].get("follow") == "1":
            for entry in WRITTEN[3 : 3 + passed_over]:
                data = data.replace(frame(entry), b"")
        return data

    engine.mangle = mangle
    async with reading(engine) as it:
        await engine.until(lambda: followed(engine) == 1)
        await it.has(100)
        for entry in WRITTEN[:45]:
            await engine.write(entry)
        await it.has(145 - passed_over)
        if ends:
            await engine.end_streams()
        await a_while()
        await engine.write(*WRITTEN[45:])
        await it.has(150 - passed_over)
        assert texts([*LINES, *WRITTEN[:3], *WRITTEN[3 + passed_over :]]) == texts(it.got)
        assert [145 - passed_over] == [at for at, entry in enumerate(it.got) if entry.gap]


@virtual
async def test_a_pause_costs_one_request_more_only_if_something_came_before_it() -> None:
    async def pause(*written: RawEntry) -> int:
        before = len(engine.requests)
        await engine.write(*written)
        await a_while(100)
        return len(engine.requests) - before

    engine = LogEngine(LINES)
    async with reading(engine) as it:
        await it.has(100)
        await a_while(1000)
        silent = await pause()
        assert silent + 1 == await pause(*WRITTEN)
        assert silent == await pause()
        assert 1 == followed(engine)
