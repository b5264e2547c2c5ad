"""Copies of bots' states beside the states themselves: a :class:`~container_manager.backend_maintenance.States`.

    {root}/{bot_id}                       the state
    {root}/.maintenance/{bot_id}/{name}   a copy, or a former state, which no bot sees

Both are on one file system, so that a state is exchanged by renames. A copy has its name only once it is complete and
on the disk. That of a backup is made anew after a kill, and is not put on the disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from container_manager.backend_maintenance import REMAKEABLE, Copied, Progress
from container_manager.bot_directories import (
    BotUser,
    OnHost,
    RootDirectory,
    check_directory,
    give,
    opened_root,
    same_user,
)
from container_manager.errors import StateUnavailableError
from container_manager.provisioning.descriptors import (
    DIRECTORY_MODE,
    exists,
    failures_as,
    fsync_directory,
    is_directory,
    names_in,
    opened_directory,
    remove_all_in,
)
from container_manager.provisioning.staging import remove_bot_directory, remove_leftovers, staging_directory
from container_manager.provisioning.tree_copy import copy_tree, sync_file_system

MAINTENANCE_DIRECTORY = ".maintenance"
_PART = ".part"


class HostStates:
    """Each bot's state is the directory ``{root}/{bot_id}``."""

    def __init__(self, root: RootDirectory, user: BotUser, host_user: OnHost = same_user) -> None:
        self._root = root
        self._user = user
        self._host_user = host_user

    def owner(self) -> BotUser:
        return self._host_user(self._user)

    def has_state(self, bot_id: str) -> bool:
        with self._opened(bot_id) as root, suppress(FileNotFoundError):
            os.stat(bot_id, dir_fd=root, follow_symlinks=False)
            check_directory(self._root, root, bot_id, "state", StateUnavailableError)
            return True
        return False

    def copy_aside(
        self, bot_id: str, name: str, *, without: Collection[str] = (), on_progress: Progress = lambda _: None
    ) -> Copied:
        with self._opened(bot_id) as root:
            check_directory(self._root, root, bot_id, "state", StateUnavailableError)
            # A bot that is paused for the copy must not wait for all that others have written to the file system.
            syncs = not name.startswith(REMAKEABLE)
            with opened_directory(bot_id, root) as state, self._new(bot_id, name, root, syncs=syncs) as copy:
                return copy_tree(state, copy, without=without, on_progress=on_progress)

    @contextmanager
    def new_aside(self, bot_id: str, name: str) -> Iterator[int]:
        owner = self.owner()
        with self._opened(bot_id) as root, self._new(bot_id, name, root) as directory:
            yield directory
            give(directory, owner, DIRECTORY_MODE)

    @contextmanager
    def new_copy(self, bot_id: str, name: str, *, syncs: bool = True) -> Iterator[int]:
        """As :meth:`new_aside`, with the owner and the mode that the block gives the directory.

        ``syncs``: False for a copy that is made anew after a kill, and is not put on the disk.
        """
        with self._opened(bot_id) as root, self._new(bot_id, name, root, syncs=syncs) as directory:
            yield directory

    @contextmanager
    def opened_aside(self, bot_id: str, name: str) -> Iterator[int]:
        with (
            self._opened(bot_id) as root,
            self._asides(bot_id, root) as asides,
            opened_directory(name, asides) as directory,
        ):
            yield directory

    def has_aside(self, bot_id: str, name: str) -> bool:
        with self._opened(bot_id) as root:
            if not exists(MAINTENANCE_DIRECTORY, root):
                return False
            with self._asides(bot_id, root) as asides:
                return is_directory(name, asides)

    def asides(self, bot_id: str) -> list[str]:
        """The names of all copies."""
        with (
            self._opened(bot_id) as root,
            suppress(FileNotFoundError),
            opened_directory(MAINTENANCE_DIRECTORY, root) as maintenance,
            opened_directory(bot_id, maintenance) as asides,
        ):
            return [name for name in names_in(asides) if not name.endswith(_PART)]
        return []

    def exchange(self, bot_id: str, *, put: str, keep: str, insists: bool = True) -> None:  # noqa: ARG002 - a rename keeps all
        with self._opened(bot_id) as root, self._asides(bot_id, root) as asides:
            if is_directory(put, asides):
                if exists(bot_id, root) and not is_directory(keep, asides):
                    os.rename(bot_id, keep, src_dir_fd=root, dst_dir_fd=asides)
                    os.fsync(asides)
                # Where a killed exchange goes on, a create may have made an empty directory in between.
                with suppress(FileNotFoundError):
                    os.rmdir(bot_id, dir_fd=root)
                os.rename(put, bot_id, src_dir_fd=asides, dst_dir_fd=root)
            fsync_directory(root)
            os.fsync(asides)

    def discard(self, bot_id: str, name: str) -> None:
        with self._opened(bot_id) as root:
            if not exists(MAINTENANCE_DIRECTORY, root):
                return
            with self._asides(bot_id, root) as asides:
                _remove(name + _PART, asides)
                # What is partly removed must not be taken for a copy, also after a power cut.
                with suppress(FileNotFoundError):
                    os.rename(name, name + _PART, src_dir_fd=asides, dst_dir_fd=asides)
                    os.fsync(asides)
                _remove(name + _PART, asides)
            _remove_if_empty(bot_id, root)

    def discard_all(self, bot_id: str) -> None:
        """Remove all copies."""
        with self._opened(bot_id) as root, suppress(FileNotFoundError):
            remove_bot_directory(bot_id, root, MAINTENANCE_DIRECTORY)

    def remove_leftovers(self) -> None:
        """Remove what :meth:`set_leftovers_aside` has taken away."""
        remove_leftovers(self._root.path)

    def set_leftovers_aside(self, owner: str, busy: Collection[str]) -> None:
        with suppress(FileNotFoundError, StateUnavailableError), self._opened("") as root:
            os.stat(MAINTENANCE_DIRECTORY, dir_fd=root, follow_symlinks=False)
            with (
                opened_directory(MAINTENANCE_DIRECTORY, root) as maintenance,
                staging_directory(root, removes=False) as staging,
            ):
                for bot_id in set(names_in(maintenance)) - set(busy):
                    with opened_directory(bot_id, maintenance) as asides:
                        left = [name for name in names_in(asides) if _is_leftover(name, owner)]
                        for name in left:
                            os.rename(name, secrets.token_hex(8), src_dir_fd=asides, dst_dir_fd=staging)
                    if left:
                        # Else another service may be about to use it.
                        _remove_if_empty(bot_id, root)

    @contextmanager
    def _opened(self, bot_id: str) -> Iterator[int]:
        what = f"the state directory {self._root.path / bot_id}"
        with (
            failures_as(StateUnavailableError, what, bot_id),
            opened_root(self._root, bot_id, "state", StateUnavailableError) as root,
        ):
            yield root

    @contextmanager
    def _asides(self, bot_id: str, root: int) -> Iterator[int]:
        _make(MAINTENANCE_DIRECTORY, root)
        with opened_directory(MAINTENANCE_DIRECTORY, root) as maintenance:
            _make(bot_id, maintenance)
            with opened_directory(bot_id, maintenance) as asides:
                yield asides

    @contextmanager
    def _new(self, bot_id: str, name: str, root: int, *, syncs: bool = True) -> Iterator[int]:
        """A directory that gets its name at the end of the block; one that a killed process left is replaced."""
        part = name + _PART
        with self._asides(bot_id, root) as asides:
            _remove(part, asides)
            os.mkdir(part, DIRECTORY_MODE, dir_fd=asides)
            try:
                with opened_directory(part, asides) as directory:
                    yield directory
                    if syncs:
                        sync_file_system(directory)
                os.rename(part, name, src_dir_fd=asides, dst_dir_fd=asides)
                if syncs:
                    os.fsync(asides)
            except BaseException:
                with suppress(OSError):
                    _remove(part, asides)
                _remove_if_empty(bot_id, root)
                raise


def _is_leftover(name: str, owner: str) -> bool:
    return f"-{owner}-" in name and (name.startswith(REMAKEABLE) or name.endswith(_PART))


def _make(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
        fsync_directory(parent)


def _remove_if_empty(bot_id: str, root: int) -> None:
    """Remove the directory of a bot's copies, unless there is another one."""
    with suppress(OSError), opened_directory(MAINTENANCE_DIRECTORY, root) as maintenance:
        os.rmdir(bot_id, dir_fd=maintenance)


def _remove(name: str, parent: int) -> None:
    if not is_directory(name, parent):
        return
    with opened_directory(name, parent) as directory:
        remove_all_in(directory)
    os.rmdir(name, dir_fd=parent)
