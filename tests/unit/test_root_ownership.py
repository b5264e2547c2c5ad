"""The owners and modes of root directories that are safe to mount from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from container_manager import root_ownership
from container_manager.root_ownership import fault_of_root, faults_above

OTHER_UID = 4711


def status(mode: int, uid: int) -> os.stat_result:
    """The stat result of a directory."""
    return os.stat_result((0o040000 | mode, 1, 1, 2, uid, 0, 4096, 0, 0, 0))


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service run as user 1234."""
    monkeypatch.setattr(root_ownership.os, "geteuid", lambda: 1234)


@pytest.mark.parametrize("uid", [0, 1234])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711, 0o500])
def test_a_root_of_roots_or_the_services_own_that_its_owner_alone_writes_is_fine(mode: int, uid: int) -> None:
    assert fault_of_root(status(mode, uid)) is None


def test_a_root_of_another_user_is_refused() -> None:
    assert "belongs to the user 4711" == fault_of_root(status(0o700, OTHER_UID))


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_root_that_others_can_write_is_refused_sticky_or_not(mode: int) -> None:
    assert f"is writable by others (mode {mode:04o})" == fault_of_root(status(mode, 0))


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory below others; their owner counts as the service's user, whichever user runs the tests."""
    monkeypatch.setattr(root_ownership.os, "geteuid", lambda: tmp_path.stat().st_uid)
    path = tmp_path / "above" / "root"
    path.mkdir(parents=True)
    return path


def test_directories_above_that_nobody_else_writes_are_fine(found: Path) -> None:
    assert [] == list(faults_above(found))


def test_a_directory_above_that_others_can_write_is_reported(found: Path) -> None:
    found.parent.chmod(0o777)
    assert [f"{found.parent} is writable by others"] == list(faults_above(found))


def test_a_sticky_one_above_is_fine_as_nobody_can_exchange_what_is_not_theirs(found: Path) -> None:
    found.parent.chmod(0o1777)
    assert [] == list(faults_above(found))


def test_the_directories_on_the_way_of_a_link_count(found: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("above/../above/root")
    found.parent.chmod(0o777)
    assert {f"{found.parent} is writable by others"} == set(faults_above(link))


def test_links_in_a_circle_end(tmp_path: Path, found: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert [] == list(faults_above(tmp_path / "one" / "root"))
