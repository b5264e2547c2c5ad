"""The audit log's file, which others may rename, and the journal."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from container_manager.errors import StartupError
from container_manager.observability import audit_log
from container_manager.observability.audit_log import JOURNAL, AuditLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_the_file_is_for_the_services_user_alone_and_is_appended_to(path: Path) -> None:
    before = os.umask(0)
    try:
        for number in range(2):
            log = AuditLog(str(path))
            log.write({"number": number})
            log.close()
    finally:
        os.umask(before)
    assert [{"number": 0}, {"number": 1}] == lines(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_any_text_stays_on_its_line(path: Path) -> None:
    log = AuditLog(str(path))
    text = 'CN=a"\n\x1b[2J\u2028é\ud800'
    log.write({"subject": text})
    log.close()
    assert [{"subject": text}] == lines(path)


def test_a_file_that_is_renamed_or_removed_is_begun_anew(path: Path) -> None:
    log = AuditLog(str(path))
    log.write({"number": 1})
    path.rename(path.with_suffix(".1"))
    log.write({"number": 2})
    path.unlink()
    log.write({"number": 3})
    log.close()
    assert ([{"number": 1}], [{"number": 3}]) == (lines(path.with_suffix(".1")), lines(path))


def test_a_line_is_kept_as_soon_as_its_file_can_be_opened_again(path: Path) -> None:
    """As where a disk is gone for a while."""
    log, elsewhere = AuditLog(str(path)), path.with_name("elsewhere")
    elsewhere.mkdir()
    log.write({"number": 1})
    path.rename(elsewhere / path.name)
    path.mkdir()
    log.write({"number": 2})
    path.rmdir()
    (elsewhere / path.name).rename(path)
    log.write({"number": 3})
    log.close()
    assert [{"number": 1}, {"number": 3}] == lines(path)


@pytest.mark.parametrize("target", ["/no/such/directory/audit.log", "/proc", JOURNAL])
def test_a_target_that_cannot_be_written_prevents_the_start(target: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=f"--audit-log: {target} cannot be written: "):
        AuditLog(target, tmp_path / "no-journal")


def test_a_change_is_not_held_up_by_a_line_that_is_lost_and_the_log_counts_them(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(str(path))

    def full(*_: Any) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(audit_log.os, "write", full)
        for number in range(3):
            log.write({"number": number})
    log.write({"number": 3})
    log.close()
    assert [{"number": 3}] == lines(path)
    assert 1 == caplog.text.count("lines of the audit log are lost")
    assert "No space left on device" in caplog.text
    assert "'lost': 3" in caplog.text


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the journal listens."""
    return tmp_path / "journal"


def test_a_line_for_which_the_disk_has_no_space_leaves_no_part_of_itself(path: Path) -> None:
    log = AuditLog(str(path))
    log.write({"number": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel then writes up to the limit, as to a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        log.write({"number": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.write({"number": 3})
    log.close()
    assert [{"number": 1}, {"number": 3}] == lines(path)


def test_a_pipe_without_a_reader_prevents_the_start(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StartupError, match="cannot be written"):
        AuditLog(str(path))


def test_a_pipe_whose_reader_is_slow_loses_lines_and_tears_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        log = AuditLog(str(path))
        # Longer than what a pipe takes as a whole (pipe(7), PIPE_BUF), until it is full in the middle of one.
        while not caplog.records:
            log.write({"text": "x" * 10_000})
        received = os.read(reader, 1 << 20)
        log.write({"number": 1})
        received += os.read(reader, 1 << 20)
        log.close()
    finally:
        os.close(reader)
    *whole, torn, last = received.decode().splitlines()
    assert [{"text": "x" * 10_000}] * len(whole) == [json.loads(line) for line in whole]
    assert (True, {"number": 1}) == (whole[0].startswith(torn), json.loads(last))


@contextmanager
def journal(place: Path) -> Iterator[socket.socket]:
    """A journal, which ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        listening.settimeout(10)
        yield listening
    place.unlink()


def test_the_journal_gets_each_line_as_a_message_also_after_its_restart(place: Path) -> None:
    with journal(place) as first:
        log = AuditLog(JOURNAL, place)
        log.write({"number": 1})
        received = first.recv(4096)
    log.write({"number": 2})
    with journal(place) as second:
        log.write({"number": 3})
        log.write({"number": 4})
        received += second.recv(4096)
    log.close()
    fields = [line.split(b"=", 1) for line in received.splitlines()]
    assert {b"container-manager-audit"} == {value for name, value in fields if name == b"SYSLOG_IDENTIFIER"}
    assert [{"number": 1}, {"number": 4}] == [json.loads(value) for name, value in fields if name == b"MESSAGE"]


def test_a_journal_that_hangs_does_not_hang_the_service(place: Path) -> None:
    with journal(place):
        log = AuditLog(JOURNAL, place)

        def fill() -> None:
            # More than it queues.
            while not log._lost:
                log.write({"method": "m"})

        writer = threading.Thread(target=fill, daemon=True)
        writer.start()
        writer.join(10)
        assert not writer.is_alive()
        log.close()


def test_a_journal_that_hangs_holds_up_one_line_and_no_other_until_it_takes_lines_again(place: Path) -> None:
    with journal(place) as listening:
        log = AuditLog(JOURNAL, place)
        while not log._lost:
            log.write({"method": "m"})
        for _ in range(5):
            assert not os.get_blocking(log._descriptor)
            log.write({"method": "m"})
        assert 6 == log._lost
        listening.recv(4096)
        log.write({"method": "m"})
        assert 0 == log._lost
        # A journal that is slow and does not hang loses no line; here it may be slower than a loaded machine.
        with socket.socket(fileno=os.dup(log._descriptor)) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 60, 0))
        reader = threading.Timer(0.1, listening.recv, (4096,))
        reader.start()
        log.write({"method": "m"})
        reader.join()
        assert 0 == log._lost
        log.close()
