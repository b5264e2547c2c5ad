"""One stream of a container's log that is not followed, on an engine in memory, and all errors at the begin."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineAccessDeniedError,
    EngineUnavailableError,
    InvalidStateError,
)
from container_manager.logs.cursor import MARGIN_NS
from container_manager.logs.reader import LogOptions
from tests.support.virtual_loop import run
from tests.unit.log_engine import SECOND, LogEngine, frame
from tests.unit.log_reading import LINES, LONG, read, reading, texts

# Without following


def test_everything_there_is_and_then_the_end() -> None:
    engine = LogEngine(LONG)
    got = read(engine)
    assert [entry[1:] for entry in LONG] == [entry[1:] for entry in got]
    assert 1 == len(engine.requests)
    assert {"follow", "since", "tail"}.isdisjoint(engine.requests[0])


def test_after_an_entry_exactly_the_rest_and_little_more_is_asked_for() -> None:
    whole = read(LogEngine(LONG))
    for at, entry in enumerate(whole):
        engine = LogEngine(LONG)
        assert whole[at + 1 :] == read(engine, after_ns=entry.time_ns)
        since_ns = entry.time_ns - MARGIN_NS
        assert f"{since_ns // SECOND}.{since_ns % SECOND:09d}" == engine.requests[-1]["since"]


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
def test_a_tail(count: int) -> None:
    assert read(LogEngine(LINES))[-count:] == read(LogEngine(LINES), tail_lines=count)


def test_a_tail_that_begins_within_a_long_line_begins_with_the_line() -> None:
    whole = read(LogEngine(LONG))
    for count in (1, 2, 3):
        assert whole[-3:] == read(LogEngine(LONG), tail_lines=count)
    assert whole[-4:] == read(LogEngine(LONG), tail_lines=4)


def test_of_a_tail_what_is_after_an_entry() -> None:
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
def test_an_error_at_the_begin_is_the_callers(
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
        engine = LogEngine(LINES)
        engine.cuts = [len(frame(LINES[0])) + 20]
        async with reading(engine, LogOptions()) as it:
            with pytest.raises(EngineUnavailableError):
                await it.task
        assert [b"line 0"] == texts(it.got)

    run(test())


FAULT = b"\x03\0\0\0\0\0\0\x0eError grabbing"


@pytest.mark.parametrize("follow", [False, True])
def test_a_log_that_the_engine_cannot_read_is_an_error_after_what_it_can(follow: bool) -> None:
    async def test() -> None:
        engine = LogEngine(LINES)
        engine.runs = False
        engine.mangle = lambda data: data + FAULT
        async with reading(engine, LogOptions(follow=follow)) as it:
            with pytest.raises(EngineUnavailableError, match="Error grabbing"):
                await it.task
        assert texts(LINES) == texts(it.got)

    run(test())


def test_an_answer_without_frames_as_a_terminals_log_is_refused() -> None:
    engine = LogEngine(LINES)
    engine.mangle = lambda data: b"?" * len(data)
    with pytest.raises(ContainerManagerError, match="not in the engine's frames") as caught:
        read(engine)
    assert "INVALID_STATE" == caught.value.reason
