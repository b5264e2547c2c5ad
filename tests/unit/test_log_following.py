"""Following a log: what comes, and until when, across restarts and the removal of the container."""

from __future__ import annotations

import pytest

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.logs.existing import LogOptions
from tests.support.virtual_loop import virtual
from tests.unit.log_engine import SECOND, LogEngine, raw
from tests.unit.log_reading import LINES, WRITTEN, a_while, followed, reading, texts


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
