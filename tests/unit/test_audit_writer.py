"""An audit log that hangs holds up nobody, and the log says what it has lost."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.observability import audit_writer
from container_manager.observability.audit_log import AuditLog
from container_manager.observability.audit_writer import AuditWriter
from container_manager.observability.telemetry import _LAST_LINES_SECONDS, Telemetry
from tests.support.waiting import wait_until


class HangingLog(AuditLog):
    """Writes no line before the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.begun, self.go = threading.Event(), threading.Event()

    def write(self, entry: Mapping[str, Any]) -> None:
        self.begun.set()
        assert self.go.wait(60)
        super().write(entry)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HangingLog:
    monkeypatch.setattr(audit_writer, "_MOST_WAITING", 4)
    return HangingLog(tmp_path / "audit.log")


def numbers(path: str) -> list[int]:
    return [json.loads(line)["number"] for line in Path(path).read_text().splitlines()]


def hanging(log: HangingLog) -> AuditWriter:
    """A writer whose log does not take the first line."""
    writer = AuditWriter(log)
    writer.start()
    writer.write({"number": 0})
    assert log.begun.wait(10)
    return writer


def test_lines_wait_for_a_log_that_hangs_and_those_without_room_are_counted(
    log: HangingLog, caplog: pytest.LogCaptureFixture
) -> None:
    writer = hanging(log)
    for number in range(1, 8):
        writer.write({"number": number})
    assert 1 == caplog.text.count("lines of the audit log are lost")
    log.go.set()
    wait_until(lambda: len(numbers(log.target)) == 5, "what has waited is written")
    assert "is written again" not in caplog.text
    writer.write({"number": 8})
    assert "'lost': 3" in caplog.text
    writer.close(10)
    assert [0, 1, 2, 3, 4, 8] == numbers(log.target)


@pytest.mark.parametrize("waiting", [1, 9])
def test_the_end_does_not_wait_for_a_log_that_hangs(
    log: HangingLog, caplog: pytest.LogCaptureFixture, waiting: int
) -> None:
    writer = AuditWriter(log)
    writer.start()
    for number in range(waiting):
        writer.write({"number": number})
        assert log.begun.wait(10)
    writer.close(0.05)
    assert "it did not take them before the end" in caplog.text
    log.go.set()
    writer.close(10)


def test_the_end_takes_no_longer_than_it_may(log: HangingLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it waits for room in the queue first."""
    writer = hanging(log)
    for number in range(1, 6):
        writer.write({"number": number})
    given: list[float] = []
    put, join = queue.Queue.put, threading.Thread.join

    def recorded_put(self: Any, item: object, *, timeout: float) -> None:
        given.append(timeout)
        put(self, item, timeout=timeout)

    def recorded_join(self: threading.Thread, timeout: float) -> None:
        given.append(timeout)
        join(self, timeout)

    with monkeypatch.context() as recording:
        recording.setattr(queue.Queue, "put", recorded_put)
        recording.setattr(threading.Thread, "join", recorded_join)
        writer.close(0.05)
    assert 2 == len(given)
    assert sum(given) <= 0.05
    log.go.set()
    writer.close(10)


def test_the_audit_log_has_at_the_end_what_the_spans_have_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class HangingTracing:
        stop = staticmethod(asyncio.sleep)

    given: list[float] = []
    monkeypatch.setattr(AuditWriter, "close", lambda _self, seconds: given.append(seconds))
    root = RootDirectory(tmp_path, tmp_path)
    audit_log = str(tmp_path / "audit.log")
    config = ServerConfig(service=BackendConfig(secrets_root=root), listen=(), audit_log=audit_log)
    telemetry = Telemetry(config, (), ())
    monkeypatch.setattr(telemetry, "_tracing", HangingTracing())
    asyncio.run(telemetry.stop(0.2))
    assert [_LAST_LINES_SECONDS] == given


def test_an_unexpected_error_loses_one_line_and_the_next_ones_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if it cannot be logged."""

    class BuggyLog(AuditLog):
        def write(self, entry: Mapping[str, Any]) -> None:
            if entry["number"] % 2:
                raise ValueError("a bug")
            super().write(entry)

    class Broken:
        def exception(self, *_args: object, **_kwargs: object) -> None:
            raise BrokenPipeError

    log = BuggyLog(str(tmp_path / "audit.log"))
    writer = AuditWriter(log)
    writer.start()
    with monkeypatch.context() as broken:
        broken.setattr(audit_writer, "_log", Broken())
        for number in range(3):
            writer.write({"number": number})
        wait_until(lambda: [0, 2] == numbers(log.target), "the line after it is written", 10)
    for number in range(3, 5):
        writer.write({"number": number})
    writer.close(10)
    assert [0, 2, 4] == numbers(log.target)
    assert 1 == caplog.text.count("unexpected error: a line of the audit log is lost")
    assert "'problem': 'unexpected errors'" in caplog.text
    assert "'lost': 2" in caplog.text


def test_the_end_says_what_is_lost(log: HangingLog, caplog: pytest.LogCaptureFixture) -> None:
    writer = hanging(log)
    for number in range(1, 8):
        writer.write({"number": number})
    caplog.clear()
    log.go.set()
    writer.close(10)
    assert "is written again" not in caplog.text
    assert "'problem': 'it took them too late'" in caplog.text
    assert "'lost': 3" in caplog.text


def test_what_waits_is_written_before_the_end(log: HangingLog, caplog: pytest.LogCaptureFixture) -> None:
    writer = AuditWriter(log)
    writer.start()
    writer.write({"number": 1})
    threading.Timer(0.1, log.go.set).start()
    writer.close(10)
    assert [1] == numbers(log.target)
    assert "audit log" not in caplog.text


def test_a_service_that_never_started_closes_its_log(log: HangingLog) -> None:
    AuditWriter(log).close(10)
    assert log._descriptor < 0
