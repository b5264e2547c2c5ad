"""What a service that runs for months keeps of operations and archives that are long gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from container_manager.errors import RollbackFailedError, UpgradeRolledBackError
from container_manager.maintenance import journal as journal_module
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import JOURNAL_DIRECTORY, Journal, Record, error_document
from tests.unit.archives import archive_of, file_entry, put
from tests.unit.provisioned import BOT

DAY = 24 * 3600


class Clock:
    """The journal's time."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(journal_module, "time", clock)
    return clock


def record(request_id: str, outcome: Mapping[str, Any] | None = None) -> Record:
    return Record(request_id, "upgrade", BOT, {}, phase="stopping", outcome=outcome)


def test_records_are_kept_for_a_week_although_the_service_does_not_start_anew(tmp_path: Path, clock: Clock) -> None:
    journal = Journal(tmp_path)
    for number in range(30):
        clock.now += DAY
        journal.save(record(f"of day {number}", {"result": {}}))
        assert journal.find(f"of day {max(number - 6, 0)}")
    assert 8 >= len(list((tmp_path / JOURNAL_DIRECTORY).iterdir()))
    assert None is journal.find("of day 0")


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (None, True),
        (error_document(RollbackFailedError("failed")), True),
        (error_document(UpgradeRolledBackError("rolled back")), False),
        ({"result": {}}, False),
    ],
    ids=["unfinished", "rollback failed", "rolled back", "done"],
)
def test_what_is_still_needed_is_kept_for_good(
    tmp_path: Path, clock: Clock, outcome: Mapping[str, Any] | None, kept: bool
) -> None:
    journal = Journal(tmp_path)
    journal.save(record("old", outcome))
    clock.now += 8 * DAY
    journal.save(record("new"))
    assert kept is (journal.find("old") is not None)


def test_the_record_of_a_bot_that_could_not_be_put_back_is_kept(tmp_path: Path, clock: Clock) -> None:
    """It may have the only description of the container. A start of the service removes what is too old, too."""
    journal = Journal(tmp_path)
    for request_id, error in (("r", RollbackFailedError("failed")), ("s", UpgradeRolledBackError("rolled back"))):
        journal.save(Record(request_id, "upgrade", BOT, {}, facts={"config": {}}, outcome=error_document(error)))
    clock.now += 8 * DAY
    assert [] == journal.unfinished()
    assert journal.find("r")
    assert not journal.find("s")


def test_of_archives_that_are_gone_or_replaced_nothing_is_kept(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    store = BackupStore(tmp_path)
    for number in range(5):
        for name in ("a", "b"):
            put(tmp_path, archive_of([file_entry("x", b"x" * number)]), f"{name}-{number}")
        put(tmp_path, archive_of([file_entry("x", bytes([number]))]), "replaced")
        assert 3 == len(store.list())
        for name in ("a", "b"):
            store.delete(f"{name}-{number}")
    assert 1 == len(store.list())
    assert 1 == len(store._known)
