"""Bots' secrets in a directory of the host: whole, for the bots' user alone, and never through a link."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import BotUser, RootDirectory, check_secrets_directory
from container_manager.errors import CapacityExceededError, SecretsUnavailableError
from container_manager.provisioning import descriptors
from container_manager.provisioning.host_secrets import HostSecrets
from tests.unit.provisioned import BOT, OTHER, USER, contents, entries, owned, root_at, staged

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    return root_at(tmp_path / "secrets")


@pytest.fixture
def secrets(root: RootDirectory) -> HostSecrets:
    return HostSecrets(root, USER)


def listed(secrets: HostSecrets) -> dict[str, int]:
    """Names and sizes."""
    return {secret.name: secret.size_bytes for secret in secrets.list_secrets(BOT)}


def test_secrets_are_read_for_a_backup_and_nothing_else_is(secrets: HostSecrets, root: RootDirectory) -> None:
    assert {} == secrets.read_secrets(BOT)
    secrets.put_secrets(BOT, {"A": b"one", "B": b""})
    directory = root.path / BOT
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "directory").mkdir()
    os.mkfifo(directory / "pipe")
    (directory / ".hidden").write_bytes(b"x")
    assert {"A": b"one", "B": b""} == secrets.read_secrets(BOT)


def test_more_than_the_secrets_of_any_bot_are_not_read(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.put_secrets(BOT, {"A": b"one"})
    with (root.path / BOT / "LARGE").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CapacityExceededError):
        secrets.read_secrets(BOT)


def test_secrets_are_written_for_the_bots_user_alone(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.put_secrets(BOT, {"A": b"one", "B": b""})
    directory = root.path / BOT
    assert {"A": b"one", "B": b""} == contents(directory)
    assert (*USER, "0o700") == owned(directory)
    assert {(*USER, "0o600")} == {owned(directory / name) for name in "AB"}
    assert [] == staged(root)
    check_secrets_directory(root, BOT)


def test_owner_and_mode_are_right_whatever_the_umask(secrets: HostSecrets, root: RootDirectory) -> None:
    before = os.umask(0)
    try:
        secrets.put_secrets(BOT, {"A": b"one"})
    finally:
        os.umask(before)
    assert ((*USER, "0o700"), (*USER, "0o600")) == (owned(root.path / BOT), owned(root.path / BOT / "A"))


@as_root
def test_a_directory_with_another_owner_or_mode_gets_the_right_ones(secrets: HostSecrets, root: RootDirectory) -> None:
    """Otherwise the bot could not read what the call has written."""
    (root.path / BOT).mkdir()
    (root.path / BOT).chmod(0o2750)
    secrets.put_secrets(BOT, {"A": b"one"})
    assert (*USER, "0o700") == owned(root.path / BOT)


def test_a_secret_is_replaced_and_others_are_kept_unless_all_are_replaced(
    secrets: HostSecrets, root: RootDirectory
) -> None:
    secrets.put_secrets(BOT, {"A": b"one", "B": b"two"})
    secrets.put_secrets(BOT, {"A": b"three"})
    assert {"A": b"three", "B": b"two"} == contents(root.path / BOT)
    (root.path / BOT / ".odd name").write_text("x")
    (root.path / BOT / "directory" / "inner").mkdir(parents=True)
    secrets.put_secrets(BOT, {"C": b"four"}, replace_all=True)
    assert ["C"] == entries(root.path / BOT)
    secrets.put_secrets(BOT, {}, replace_all=True)
    assert [] == entries(root.path / BOT)
    assert [] == staged(root)


def test_the_directory_of_a_running_bot_is_never_replaced(secrets: HostSecrets, root: RootDirectory) -> None:
    """Its container has mounted the inode."""
    secrets.put_secrets(BOT, {"A": b"one"})
    before = (root.path / BOT).stat().st_ino
    secrets.put_secrets(BOT, {"A": b"two"}, replace_all=True)
    secrets.delete_secrets(BOT, ["A"])
    assert before == (root.path / BOT).stat().st_ino


def test_a_list_has_names_sizes_and_times_and_nothing_else(secrets: HostSecrets, root: RootDirectory) -> None:
    assert {} == listed(secrets)
    secrets.put_secrets(BOT, {"B": b"12345", "A": b""})
    (root.path / BOT / "directory").mkdir()
    (root.path / BOT / "link").symlink_to("A")
    os.mkfifo(root.path / BOT / "fifo")
    (root.path / BOT / ".hidden").touch()
    assert ["A", "B"] == [secret.name for secret in secrets.list_secrets(BOT)]
    assert {"A": 0, "B": 5} == listed(secrets)
    assert (root.path / BOT / "B").stat().st_mtime_ns == secrets.list_secrets(BOT)[1].time_ns


def test_secrets_are_deleted_by_name_and_missing_ones_are_ignored(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.delete_secrets(BOT, ["A"])
    secrets.put_secrets(BOT, {"A": b"1", "B": b"2"})
    secrets.delete_secrets(BOT, ["A", "C"])
    assert {"B": b"2"} == contents(root.path / BOT)


def test_all_secrets_go_with_their_directory_and_other_bots_keep_theirs(
    secrets: HostSecrets, root: RootDirectory
) -> None:
    secrets.put_secrets(BOT, {"A": b"1"})
    secrets.put_secrets(OTHER, {"A": b"2"})
    for _ in range(2):
        secrets.delete_all_secrets(BOT)
        assert {f"{OTHER}/A": b"2"} == contents(root.path)
        assert [OTHER] == entries(root.path)


@pytest.mark.parametrize("place", ["link", "file", "fifo"])
def test_what_is_no_directory_is_refused_by_every_call_and_left_as_it_is(
    secrets: HostSecrets, root: RootDirectory, place: str
) -> None:
    secrets.put_secrets(OTHER, {"A": b"other"})
    path = root.path / BOT
    {"link": lambda: path.symlink_to(OTHER), "file": path.touch, "fifo": lambda: os.mkfifo(path)}[place]()
    before = path.lstat()
    expected = "is a symbolic link, which is never followed" if place == "link" else "is not a directory"
    for call in (
        lambda: secrets.put_secrets(BOT, {"A": b"1"}),
        lambda: secrets.list_secrets(BOT),
        lambda: secrets.delete_secrets(BOT, ["A"]),
        lambda: secrets.delete_all_secrets(BOT),
    ):
        with pytest.raises(SecretsUnavailableError, match=expected) as caught:
            call()
        assert {"bot_id": BOT} == caught.value.metadata
    assert before == path.lstat()
    assert {"A": b"other"} == contents(root.path / OTHER)
    assert [] == staged(root)


def test_a_link_in_place_of_a_secret_is_replaced_and_not_followed(secrets: HostSecrets, root: RootDirectory) -> None:
    secrets.put_secrets(BOT, {"A": b"1"})
    secrets.put_secrets(OTHER, {"A": b"other"})
    (root.path / BOT / "B").symlink_to(f"../{OTHER}/A")
    secrets.put_secrets(BOT, {"B": b"2"})
    assert {"A": b"1", "B": b"2"} == contents(root.path / BOT)
    assert {"A": b"other"} == contents(root.path / OTHER)


def test_a_directory_in_place_of_a_secret_is_refused_before_anything_is_changed(
    secrets: HostSecrets, root: RootDirectory
) -> None:
    secrets.put_secrets(BOT, {"A": b"1"})
    (root.path / BOT / "B").mkdir()
    with pytest.raises(SecretsUnavailableError, match="B is a directory; remove it first"):
        secrets.put_secrets(BOT, {"A": b"2", "B": b"3"})
    assert {"A": b"1"} == contents(root.path / BOT)
    assert [] == staged(root)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_root_that_others_can_write_in_is_refused_and_nothing_written(
    secrets: HostSecrets, root: RootDirectory, mode: int
) -> None:
    root.path.chmod(mode)
    with pytest.raises(SecretsUnavailableError, match="is writable by others"):
        secrets.put_secrets(BOT, {"A": b"1"})
    assert [] == entries(root.path)


def test_a_missing_root_is_refused_and_not_created(tmp_path: Path) -> None:
    secrets = HostSecrets(RootDirectory(tmp_path / "no", tmp_path / "no"), USER)
    with pytest.raises(SecretsUnavailableError, match="No such file or directory"):
        secrets.put_secrets(BOT, {"A": b"1"})
    secrets.remove_leftovers()
    assert [] == entries(tmp_path)


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked", "while it is locked"])
def test_a_service_that_starts_meanwhile_disturbs_no_call(
    secrets: HostSecrets, root: RootDirectory, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """It may take a directory that the call has just made for a leftover."""
    steps = {"before it is opened": (os, "mkdir"), "before it is locked": (fcntl, "flock")}
    module, name = steps.get(moment, (fcntl, "flock"))
    step = getattr(module, name)
    starts: list[str] = []

    def disturbed(*arguments: Any, **named: Any) -> None:
        if starts:
            step(*arguments, **named)
            return
        starts.append(moment)
        if moment == "while it is locked":
            raise BlockingIOError
        if name == "mkdir":
            step(*arguments, **named)
        secrets.remove_leftovers()
        if name == "flock":
            step(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, disturbed)
        secrets.put_secrets(BOT, {"A": b"1"})
    assert [moment] == starts
    assert {f"{BOT}/A": b"1"} == contents(root.path)
    assert [BOT] == entries(root.path)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, CapacityExceededError),
        (errno.EDQUOT, CapacityExceededError),
        (errno.EIO, SecretsUnavailableError),
        (errno.EROFS, SecretsUnavailableError),
    ],
)
@pytest.mark.parametrize("step", ["write", "fsync", "rename", "mkdir"])
def test_a_fault_of_the_disk_changes_nothing_and_shows_no_content(  # noqa: PLR0917 - fixtures and parameters
    secrets: HostSecrets,
    root: RootDirectory,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    error: type[Exception],
) -> None:
    secrets.put_secrets(BOT, {"A": b"old"})

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(descriptors.os, step, failing)
        with pytest.raises(error, match=re.escape(os.strerror(number))) as caught:
            secrets.put_secrets(BOT, {"A": b"new-secret", "B": b"another"})
    assert "new-secret" not in str(caught.value)
    assert {"A": b"old"} == contents(root.path / BOT)
    assert [] == staged(root)


def test_a_service_that_may_not_give_files_away_says_what_it_needs(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(descriptors.os, "fchown", denied)
    other = os.geteuid() + 4321
    with pytest.raises(SecretsUnavailableError, match=f"needs CAP_CHOWN to give it to the bots' user {other}"):
        HostSecrets(root, BotUser(other, other)).put_secrets(BOT, {"A": b"1"})
    assert [] == entries(root.path)
    HostSecrets(root, BotUser(os.geteuid(), other)).put_secrets(BOT, {"A": b"1"})
    assert {"A": b"1"} == contents(root.path / BOT)
