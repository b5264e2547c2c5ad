"""A bot's directories on the host: never another bot's, and never through a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from container_manager import bot_directories
from container_manager.bot_directories import RootDirectory, check_secrets_directory, ensure_state_directory
from container_manager.errors import ContainerManagerError, SecretsUnavailableError, StateUnavailableError

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
OTHER = "7d1d8f3a-98b2-4a44-8a55-3f0b6a1c2d22"


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    return RootDirectory(tmp_path, tmp_path)


def refused(root: RootDirectory, error: type[ContainerManagerError]) -> str:
    """The error message of a check of this kind."""
    check = check_secrets_directory if error is SecretsUnavailableError else ensure_state_directory
    with pytest.raises(error) as caught:
        check(root, BOT)
    assert {"bot_id": BOT} == caught.value.metadata
    assert "FAILED_PRECONDITION" == caught.value.code
    return str(caught.value)


def test_a_real_directory_is_accepted_and_left_as_it_is(root: RootDirectory) -> None:
    (root.path / BOT).mkdir(mode=0o500)
    check_secrets_directory(root, BOT)
    assert 0o500 == stat.S_IMODE((root.path / BOT).stat().st_mode)


def test_a_missing_secrets_directory_is_refused_and_not_made(root: RootDirectory) -> None:
    assert "does not exist; put the bot's secrets first" in refused(root, SecretsUnavailableError)
    assert [] == list(root.path.iterdir())


def test_a_missing_root_is_refused_and_not_made(tmp_path: Path) -> None:
    root = RootDirectory(tmp_path / "no", tmp_path / "no")
    assert str(root.path / BOT) in refused(root, SecretsUnavailableError)
    assert str(root.path / BOT) in refused(root, StateUnavailableError)
    assert not root.path.exists()


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
def test_a_link_to_another_bots_directory_is_refused(root: RootDirectory, error: type[ContainerManagerError]) -> None:
    (root.path / OTHER).mkdir()
    (root.path / BOT).symlink_to(root.path / OTHER)
    assert "symbolic link" in refused(root, error)


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
def test_a_dangling_link_is_refused_and_its_target_not_made(
    root: RootDirectory, error: type[ContainerManagerError]
) -> None:
    (root.path / BOT).symlink_to(root.path / "target")
    assert "symbolic link" in refused(root, error)
    assert not (root.path / "target").exists()


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
def test_a_file_in_its_place_is_refused_and_left_as_it_is(
    root: RootDirectory, error: type[ContainerManagerError]
) -> None:
    (root.path / BOT).write_text("kept")
    assert "is not a directory" in refused(root, error)
    assert "kept" == (root.path / BOT).read_text()


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
def test_a_root_that_is_a_file_is_refused_with_the_systems_reason(
    tmp_path: Path, error: type[ContainerManagerError]
) -> None:
    (tmp_path / "root").write_text("")
    assert "Not a directory" in refused(RootDirectory(tmp_path / "root", tmp_path / "root"), error)


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
def test_an_unreadable_root_is_refused_with_the_systems_reason(
    root: RootDirectory, error: type[ContainerManagerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test injects the denial, as root is denied nothing."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(bot_directories.os, "open", denied)
    assert "Permission denied" in refused(root, error)


@pytest.mark.parametrize("error", [SecretsUnavailableError, StateUnavailableError])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o720])
def test_a_root_that_others_can_write_in_is_refused_and_nothing_made(
    root: RootDirectory, error: type[ContainerManagerError], mode: int
) -> None:
    """Users who can write there can replace the directory between this check and the engine's mount."""
    root.path.chmod(mode)
    assert f"is writable by others (mode {mode:04o})" in refused(root, error)
    assert [] == list(root.path.iterdir())


def test_work_in_a_root_stays_in_that_root_when_its_path_is_replaced(
    root: RootDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_mkdir, moved = os.mkdir, tmp_path.with_name("moved")

    def exchanged(*args: Any, **kwargs: Any) -> None:
        root.path.rename(moved)
        root.path.symlink_to("/nonexistent")
        real_mkdir(*args, **kwargs)

    monkeypatch.setattr(bot_directories.os, "mkdir", exchanged)
    ensure_state_directory(root, BOT)
    assert [moved / BOT] == list(moved.iterdir())


def test_a_state_directory_is_made_for_its_owner_alone(root: RootDirectory) -> None:
    ensure_state_directory(root, BOT)
    made = (root.path / BOT).stat()
    assert 0o700 == stat.S_IMODE(made.st_mode)
    assert (1000 if os.geteuid() == 0 else os.geteuid()) == made.st_uid


def test_a_state_directory_keeps_its_mode_under_any_umask(root: RootDirectory) -> None:
    before = os.umask(0)
    try:
        ensure_state_directory(root, BOT)
    finally:
        os.umask(before)
    assert 0o700 == stat.S_IMODE((root.path / BOT).stat().st_mode)


def test_a_user_that_cannot_give_files_away_keeps_the_state_directory_and_root_fails(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(bot_directories.os, "fchown", denied)
    if os.geteuid() == 0:
        with pytest.raises(StateUnavailableError):
            ensure_state_directory(root, BOT)
        assert not (root.path / BOT).exists()
        monkeypatch.setattr(bot_directories.os, "geteuid", lambda: 1234)
    ensure_state_directory(root, BOT)
    assert root.path.stat().st_uid == (root.path / BOT).stat().st_uid


def test_an_existing_state_directory_is_left_as_it_is(root: RootDirectory) -> None:
    (root.path / BOT).mkdir(mode=0o755)
    (root.path / BOT / "memory").write_text("kept")
    before = (root.path / BOT).stat()
    ensure_state_directory(root, BOT)
    after = (root.path / BOT).stat()
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)
    assert "kept" == (root.path / BOT / "memory").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_that_a_crash_left_half_made_is_completed(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for the end of the process."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(bot_directories.os, "fchown", killed)
        with pytest.raises(Killed):
            ensure_state_directory(root, BOT)
    assert 0 == (root.path / BOT).stat().st_uid
    ensure_state_directory(root, BOT)
    assert 1000 == (root.path / BOT).stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_another_user_or_with_files_in_it_keeps_its_owner(root: RootDirectory) -> None:
    for bot, uid in ((BOT, 0), (OTHER, 1234)):
        (root.path / bot).mkdir()
        os.chown(root.path / bot, uid, uid)
    (root.path / BOT / "memory").write_text("kept")
    for bot, uid in ((BOT, 0), (OTHER, 1234)):
        ensure_state_directory(root, bot)
        assert uid == (root.path / bot).stat().st_uid


def test_the_engine_gets_the_path_as_it_sees_it(tmp_path: Path) -> None:
    root = RootDirectory(tmp_path, Path("/srv/bots/secrets"))
    (tmp_path / BOT).mkdir()
    check_secrets_directory(root, BOT)
    assert f"/srv/bots/secrets/{BOT}" == root.source(BOT)
