"""An audit log that hangs holds up nobody, and the log says what it has lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from container_manager.observability import audit_writer
from container_manager.observability.audit_log import AuditLog
from container_manager.observability.audit_writer import AuditWriter
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


def test_lines_wait_for_a_log_that_hangs_and_those_without_room_are_counted(
    log: HangingLog, caplog: pytest.LogCaptureFixture
) -> None:
    writer = AuditWriter(log)
    writer.start()
    writer.write({"number": 0})
    assert log.begun.wait(10)
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
