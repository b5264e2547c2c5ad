"""Copies of states, and their exchange: killed at any step, no state is lost, and the same call completes it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from container_manager.backend_maintenance import REMAKEABLE
from container_manager.bot_directories import RootDirectory
from container_manager.errors import StateUnavailableError
from container_manager.provisioning import host_states
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY, HostStates
from tests.unit.provisioned import BOT, OTHER, USER, contents, entries, owned, root_at, staged
from tests.unit.test_provisioning_killed import kills


@pytest.fixture
def root(tmp_path: Path) -> RootDirectory:
    root = root_at(tmp_path / "root")
    HostFiles(root, USER).put_files(BOT, {"a/b": b"old", "c": b"old"})
    return root


def test_a_copy_and_the_state_change_places(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    assert states.has_state(BOT)
    copied = states.copy_aside(BOT, "copy")
    assert (3, []) == (copied.entries, copied.left_out)
    with states.opened_aside(BOT, "copy") as copy:
        Path(f"/proc/self/fd/{copy}/c").write_bytes(b"new")
    states.exchange(BOT, put="copy", keep="former")
    assert {"a/b": b"old", "c": b"new"} == contents(root.path / BOT)
    assert (*USER, "0o700") == owned(root.path / BOT)
    assert [False, True] == [states.has_aside(BOT, name) for name in ("copy", "former")]
    states.exchange(BOT, put="former", keep="failed")
    assert {"a/b": b"old", "c": b"old"} == contents(root.path / BOT)
    states.discard(BOT, "failed")
    assert [] == entries(root.path / MAINTENANCE_DIRECTORY)


def test_a_state_appears_where_there_was_none(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    HostFiles(root, USER).delete_state(BOT)
    assert not states.has_state(BOT)
    with states.new_aside(BOT, "new") as new:
        Path(f"/proc/self/fd/{new}/c").write_bytes(b"new")
    states.exchange(BOT, put="new", keep="former")
    assert {"c": b"new"} == contents(root.path / BOT)
    assert (*USER, "0o700") == owned(root.path / BOT)
    assert not states.has_aside(BOT, "former")


def test_a_copy_that_fails_leaves_nothing(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    with pytest.raises(StateUnavailableError), states.new_aside(BOT, "new") as new:  # noqa: PT012 - raised inside
        Path(f"/proc/self/fd/{new}/c").write_bytes(b"new")
        os.stat("nothing", dir_fd=new)
    assert [] == entries(root.path / MAINTENANCE_DIRECTORY)


def test_a_killed_copy_is_no_copy_and_is_made_anew(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    for _ in kills(lambda: states.copy_aside(BOT, "copy")):
        copy = root.path / MAINTENANCE_DIRECTORY / BOT / "copy"
        assert not copy.exists() or contents(root.path / BOT) == contents(copy)
        states.copy_aside(BOT, "other")
        states.discard(BOT, "other")
        states.discard(BOT, "copy")
        assert [] == entries(root.path / MAINTENANCE_DIRECTORY)


def test_a_copy_that_is_made_anew_after_a_kill_waits_for_no_disk(
    root: RootDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot is paused meanwhile. What a restore unpacks becomes the bot's state, whatever it is called."""
    states, synced = HostStates(root, USER), []
    monkeypatch.setattr(host_states, "sync_file_system", synced.append)
    states.copy_aside(BOT, f"{REMAKEABLE}backup")
    assert 0 == len(synced)
    states.copy_aside(BOT, "former-1")
    assert 1 == len(synced)
    with states.new_aside(BOT, f"{REMAKEABLE}restored"):
        pass
    assert 2 == len(synced)


def test_a_killed_exchange_loses_nothing_and_the_same_call_completes_it(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    with states.new_aside(BOT, "new") as new:
        Path(f"/proc/self/fd/{new}/c").write_bytes(b"new")
    for _ in kills(lambda: states.exchange(BOT, put="new", keep="former")):
        places = (root.path / BOT, *(root.path / MAINTENANCE_DIRECTORY / BOT).iterdir())
        assert [b"new", b"old"] == sorted(contents(place)["c"] for place in places if place.exists())
        states.exchange(BOT, put="new", keep="former")
        assert {"c": b"new"} == contents(root.path / BOT)
        # Back, for the next kill.
        states.exchange(BOT, put="former", keep="new")
    assert {"c": b"new"} == contents(root.path / BOT)


def test_a_link_in_the_place_of_a_state_is_refused(root: RootDirectory, tmp_path: Path) -> None:
    states = HostStates(root, USER)
    HostFiles(root, USER).delete_state(BOT)
    (root.path / BOT).symlink_to(tmp_path)
    for call in (lambda: states.has_state(BOT), lambda: states.copy_aside(BOT, "copy")):
        with pytest.raises(StateUnavailableError, match="symbolic link"):
            call()


def test_deleting_a_bots_state_deletes_what_is_kept_beside_it(root: RootDirectory) -> None:
    states = HostStates(root, USER)
    states.copy_aside(BOT, "failed")
    HostFiles(root, USER).delete_state(BOT)
    assert [MAINTENANCE_DIRECTORY] == entries(root.path)
    assert [] == entries(root.path / MAINTENANCE_DIRECTORY)


def test_leftovers_are_taken_away_at_once_and_removed_later(root: RootDirectory) -> None:
    """The service starts after the first, while what is left may take hours to remove. Others' copies stay."""
    states, files = HostStates(root, USER), HostFiles(root, USER)
    files.put_files(OTHER, {"c": b"old"})
    for bot_id in (BOT, OTHER):
        for name in ("copy-backup-mine-1", "copy-backup-its-1", "former-mine-1"):
            states.copy_aside(bot_id, name)
    asides = root.path / MAINTENANCE_DIRECTORY
    for owner in ("mine", "its"):
        (asides / BOT / f"copy-restored-{owner}-1.part").mkdir()
    with patch("os.unlink") as unlink:
        states.set_leftovers_aside("mine", {OTHER})
    assert ["lock"] == [name for (name,), _ in unlink.call_args_list], "no file of a copy"
    kept = ["copy-backup-its-1", "copy-restored-its-1.part", "former-mine-1"]
    its = ["copy-backup-its-1", "copy-backup-mine-1", "former-mine-1"]
    assert (kept, its) == (entries(asides / BOT), entries(asides / OTHER))
    (left,) = staged(root)
    assert 2 == len(set(entries(root.path / left)) - {"lock"})
    files.remove_leftovers()
    assert [] == staged(root)
    states.set_leftovers_aside("mine", set())
    files.remove_leftovers()
    assert (["copy-backup-its-1", "former-mine-1"], []) == (entries(asides / OTHER), staged(root))
    states.set_leftovers_aside("mine", set())
    assert [] == staged(root)
