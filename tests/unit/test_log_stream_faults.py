"""Following a log through an engine whose streams break, end or fall silent, or that skips and repeats entries."""

from __future__ import annotations

import asyncio
import time

import pytest

from container_manager.model import RawEntry
from tests.support.virtual_loop import virtual
from tests.unit.log_engine import OUT, SECOND, LogEngine, frame, raw
from tests.unit.log_reading import LINES, WRITTEN, a_while, followed, reading, texts


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
async def test_one_who_was_held_up_is_given_what_exists_before_following_goes_on() -> None:
    """An engine that is far behind may skip entries. It never does among those that exist when they are asked for."""
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


@pytest.mark.parametrize("passed_over", [1, 2, 40])
@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("ends", [False, True])
@virtual
async def test_entries_that_the_engine_passes_over_are_a_gap_behind_the_next_pause(
    passed_over: int, readable: bool, ends: bool
) -> None:
    """Intact ones may be among them, and the engine may have gone on to send new ones.

    ``readable``: the engine shows them later, among the existing ones.
    """
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
