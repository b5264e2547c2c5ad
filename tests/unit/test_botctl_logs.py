"""``botctl logs``: every line once, despite any interruption, and no control sequences for the terminal."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from botctl.connection import Connection
from botctl.exit_codes import ExitCode
from botctl.log_reading import LogReading, LogSelection
from botctl.rendering.log_lines import LogWriter
from botctl.session import Session
from botmaker.container.v1 import container_observer_pb2 as pb
from container_manager.errors import (
    CapacityExceededError,
    ContainerNotFoundError,
    EngineUnavailableError,
    ShuttingDownError,
)
from tests.support.scripted_service import AWAY, ScriptedService, entry
from tests.unit.botctl_runs import Run, complaint, documents

STDERR = pb.LogEntry.SOURCE_STDERR
ENGINE_AWAY = EngineUnavailableError("the engine is away")
SHUTTING_DOWN = ShuttingDownError("the service ends")
NOT_TAKEN = CapacityExceededError("an entry was not taken in time")
CANCELLED = grpc.StatusCode.CANCELLED
GONE = ContainerNotFoundError("the bot has no container")


@pytest.fixture(params=[True, False], ids=["batches", "one by one"])
def follow(
    botctl_run: Run, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., tuple[str, str, list[pb.StreamLogsRequest]]]:
    """Follow the log of these streams; returns both outputs and the requests."""
    monkeypatch.setattr("botctl.resuming._FIRST_PAUSE_SECONDS", 0)
    scripted.batches = request.param
    bot_id = scripted.add()

    def read(*streams: list[Any], options: tuple[str, ...] = ()) -> tuple[str, str, list[pb.StreamLogsRequest]]:
        scripted.logs = list(streams)
        result = botctl_run("logs", "-f", bot_id, *options)
        assert 0 == result.exit_code, result.output
        return result.stdout, result.stderr, scripted.seen("StreamLogs")

    return read


def numbered(*numbers: int) -> str:
    return "".join(f"line {number}\n" for number in numbers)


def afters(requests: list[pb.StreamLogsRequest]) -> list[int]:
    """The number of the entry after which each request asks; 0: from the start."""
    assert not any(request.HasField("after") for request in requests)
    return [int(request.after_cursor.removeprefix("c") or 0) for request in requests]


def test_existing_lines_come_first_and_new_ones_follow(follow: Any) -> None:
    out, err, requests = follow([entry(1), entry(2)], [entry(3)])
    assert (numbered(1, 2, 3), "") == (out, err)
    assert [False, True] == [request.follow for request in requests]
    assert [0, 2] == afters(requests)


def test_missing_lines_are_told(follow: Any) -> None:
    out, err, _ = follow([entry(1)], [entry(7, gap=True), entry(8)])
    assert numbered(1, 7, 8) == out
    assert ["botctl: lines are missing: the engine has dropped them, or cannot read them"] == err.splitlines()


def test_a_service_that_does_not_know_cursors_is_asked_by_time(follow: Any) -> None:
    out, _, requests = follow([entry(1, cursor="")], [entry(2, cursor=""), AWAY], [entry(3, cursor="")])
    assert numbered(1, 2, 3) == out
    assert [(0, ""), (1, ""), (2, "")] == [(request.after.seconds, request.after_cursor) for request in requests]


@pytest.mark.parametrize(
    "broken", [AWAY, SHUTTING_DOWN, ENGINE_AWAY, CANCELLED], ids=["killed", "ended", "engine", "cancelled"]
)
def test_a_broken_stream_continues_after_the_last_entry(follow: Any, broken: Any) -> None:
    out, err, requests = follow(
        [entry(1), broken], [entry(2)], [entry(3), broken], [broken], [entry(4), broken], [entry(5)]
    )
    assert numbered(1, 2, 3, 4, 5) == out
    assert [0, 1, 2, 3, 3, 4] == afters(requests)
    assert ["the service is away", "the service is back"] == [
        line.removeprefix("botctl: ").partition(";")[0] for line in err.splitlines()
    ][:2]


def test_a_long_absence_is_reported_once(follow: Any) -> None:
    _, err, _ = follow([], [AWAY], [AWAY], [AWAY], [entry(1)])
    assert 1 == err.count("away")


def test_a_stream_that_breaks_before_its_first_entry_loses_none(follow: Any) -> None:
    out, _, requests = follow([entry(1), entry(2)], [AWAY], [entry(3)], options=("--tail", "2"))
    assert numbered(1, 2, 3) == out
    assert [0, 2, 2] == afters(requests)
    assert [2, None, None] == [request.tail_lines if request.HasField("tail_lines") else None for request in requests]


def test_from_now_on_starts_after_the_newest_entry(follow: Any) -> None:
    out, _, requests = follow([entry(7)], [AWAY], [entry(8)], options=("--tail", "0"))
    assert numbered(8) == out
    assert [0, 7, 7] == afters(requests)
    assert 1 == requests[0].tail_lines


def test_from_now_on_loses_nothing_when_the_stream_breaks_later(follow: Any) -> None:
    out, _, _ = follow([entry(7), AWAY], [entry(8)], [entry(9)], options=("--tail", "0"))
    assert numbered(8, 9) == out


def test_an_empty_log_is_followed_from_its_start(follow: Any) -> None:
    out, _, requests = follow([], [AWAY], [entry(1)], options=("--tail", "0"))
    assert numbered(1) == out
    assert [0, 0, 0] == afters(requests)


def test_a_container_that_is_removed_while_the_service_is_away_ends_it(follow: Any) -> None:
    out, _, _ = follow([entry(1)], [entry(2), AWAY], [GONE])
    assert numbered(1, 2) == out


def test_the_limit_counts_across_streams(follow: Any) -> None:
    out, _, requests = follow([entry(1, b"12345"), AWAY], [], [entry(2, b"12345")], options=("--limit-bytes", "11"))
    assert "12345\n12345\n" == out
    assert [11, 6, 6] == [request.limit_bytes for request in requests]


def test_the_limit_reached_ends_it(follow: Any) -> None:
    out, _, requests = follow([entry(1, b"12345")], options=("--limit-bytes", "5"))
    assert ("12345\n", 1) == (out, len(requests))


@pytest.mark.parametrize("ended", [NOT_TAKEN, CANCELLED], ids=["told", "cancelled"])
def test_a_log_that_was_not_taken_in_time_continues_after_the_last_entry(
    botctl_run: Run, scripted: ScriptedService, ended: Any
) -> None:
    scripted.logs = [[entry(1), entry(2), ended], [entry(3), ended], [entry(4)]]
    result = botctl_run("logs", scripted.add(), "--tail", "4")
    assert (numbered(1, 2, 3, 4), "", 0) == (result.stdout, result.stderr, result.exit_code)
    assert [0, 2, 3] == afters(scripted.seen("StreamLogs"))


def test_existing_lines_that_were_not_taken_in_time_are_followed_too(follow: Any) -> None:
    out, err, requests = follow([entry(1), NOT_TAKEN], [entry(2)], [entry(3)])
    assert (numbered(1, 2, 3), "") == (out, err)
    assert [0, 1, 2] == afters(requests)


def test_a_log_for_which_there_is_no_place_is_an_error(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.logs = [[entry(1), NOT_TAKEN], [NOT_TAKEN]]
    result = botctl_run("logs", scripted.add())
    assert numbered(1) == result.stdout
    assert str(NOT_TAKEN) in complaint(result, ExitCode.NOT_NOW)


def test_without_follow_a_broken_log_is_an_error(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.logs = [[entry(1), SHUTTING_DOWN]]
    result = botctl_run("logs", scripted.add())
    assert numbered(1) == result.stdout
    assert "try again when it is back" in complaint(result, ExitCode.NOT_NOW)


def test_the_options_are_the_requests_fields(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.logs = [[]]
    bot_id = scripted.add("0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11")
    botctl_run("logs", "0b", "-n", "5", "--after", "2026-11-24T08:30:00.5Z", "--limit-bytes", "1k")
    expected = pb.StreamLogsRequest(bot_id=bot_id, tail_lines=5, limit_bytes=1024, max_batch_entries=1000)
    expected.after.FromJsonString("2026-11-24T08:30:00.5Z")
    assert [expected] == scripted.seen("StreamLogs")


def test_into_a_pipe_every_byte_goes_as_it_is(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.logs = [[entry(1, b"\x1b[31m\xff\r"), entry(2, b"open", partial=True)]]
    assert b"\x1b[31m\xff\r\nopen" == botctl_run("logs", scripted.add()).stdout_bytes


def test_json_lines_say_time_and_source(botctl_run: Run, scripted: ScriptedService) -> None:
    scripted.logs = [[entry(1, b"caf\xc3\xa9 \xff", source=STDERR, partial=True)]]
    (line,) = documents(botctl_run("logs", scripted.add(), "-o", "json"))
    expected = {"time": "1970-01-01T00:00:01.000000000Z", "source": "stderr", "line": "café �", "partial": True}
    assert expected == line


def written(*entries: pb.StreamLogsResponse, terminal: bool = True, **options: bool) -> bytes:
    stream = io.BytesIO()
    writer = LogWriter(stream, terminal=terminal, **{"colours": False, "timestamps": False, **options})
    for each in entries:
        writer.write([each.entry])
    writer.close()
    return stream.getvalue()


def test_a_terminal_gets_no_command_from_a_bot_but_its_colours() -> None:
    hostile = entry(1, b"\x1b[2J\x1b]0;title\x07\x1b[31mred\ttab\r")
    assert b"^[[2J^[]0;title^Gred\ttab\n" == written(hostile)
    assert b"^[[2J^[]0;title^G\x1b[31mred\ttab\x1b[0m\n" == written(hostile, colours=True)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x9b2J \u202eabc\u2066 \u2028".encode(), rb"\x9b2J \u202eabc\u2066 \u2028"),
        # Bytes of C1 as a terminal with 8 bits reads them, and others that are not UTF-8.
        (b"\x9b2J caf\xe9 \xe2\x82", rb"\x9b2J caf\xe9 \xe2\x82"),
        ("café ß 漢 🤖".encode(), "café ß 漢 🤖".encode()),
    ],
)
@pytest.mark.parametrize("colours", [False, True])
def test_a_terminal_gets_no_c1_and_no_mark_that_reorders_text(line: bytes, shown: bytes, colours: bool) -> None:
    assert shown + b"\n" == written(entry(1, line), colours=colours)


def test_a_character_in_two_parts_of_a_line_is_one() -> None:
    """The second byte alone would be one of C1."""
    first, second = "ß".encode()
    assert 0x9F == second
    parts = entry(1, bytes([first]), partial=True), entry(2, bytes([second]))
    assert "ß\n".encode() == written(*parts)
    assert b"\\xc3\noops\n" == written(parts[0], entry(2, b"oops", source=STDERR))
    assert b"\\xc3\n" == written(parts[0])


def test_standard_error_is_told_apart_by_its_colour() -> None:
    assert b"\x1b[31moops\x1b[0m\n" == written(entry(1, b"oops", source=STDERR), colours=True)
    assert b"oops\n" == written(entry(1, b"oops", source=STDERR))


def test_parts_of_a_line_are_one_line_unless_the_other_stream_comes_between() -> None:
    parts = (entry(1, b"a", partial=True), entry(2, b"b", partial=True), entry(3, b"c"))
    assert b"abc\n" == written(*parts)
    assert b"1970-01-01T00:00:01.000000000Z abc\n" == written(*parts, timestamps=True)
    between = (entry(1, b"a", partial=True), entry(2, b"oops", source=STDERR), entry(3, b"b"))
    assert b"a\noops\nb\n" == written(*between, terminal=False)
    assert b"a\n" == written(entry(1, b"a", partial=True))


def test_a_batch_is_written_before_the_next_one_is_awaited() -> None:
    stream = io.BufferedRandom(io.BytesIO())  # type: ignore[arg-type]
    LogWriter(stream, terminal=False, colours=False, timestamps=False).write([entry(1).entry, entry(2).entry])
    assert numbered(1, 2).encode() == stream.raw.getvalue()  # type: ignore[attr-defined]


def test_an_abandoned_read_ends_its_stream(scripted: ScriptedService) -> None:
    session = Session(Connection(scripted.target))
    reading = LogReading(session.observer, LogSelection(scripted.add(), follow=True), session.notice)
    scripted.batches = False
    scripted.logs = [[], [entry(number) for number in range(1, 1000)]]
    assert [1, 2, 3] == [each.time.seconds for entries in itertools.islice(reading, 3) for each in entries]
    session.close()
