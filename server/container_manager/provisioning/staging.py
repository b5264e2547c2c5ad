"""Directories in a root, beside those of the bots, that hold what is written or removed until it is complete.

Only this service's user can enter them, and no bot sees them. They are on the root's file system, so a rename moves a
whole file into a bot's directory, or a bot's directory out of its place, in one step.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from container_manager.bot_directories import BotUser
from container_manager.provisioning.descriptors import (
    DIRECTORY_MODE,
    fsync_directory,
    names_in,
    opened_directory,
    opened_lock_file,
    remove_all_in,
    write_file,
)

STAGING_PREFIX = ".provisioning-"
_REMOVED, _LOCK = "removed", "lock"

_log = logging.getLogger(__name__)


@contextmanager
def staging_directory(root: int, *, removes: bool = True) -> Iterator[int]:
    """A new directory in the root, which is removed at the end with all that is left in it.

    A file in it, ``lock``, is locked meanwhile. A directory without a lock is what a killed process has left.
    ``removes``: False leaves what is in it to the next :func:`remove_leftovers`.
    """
    while True:
        name = STAGING_PREFIX + secrets.token_hex(8)
        os.mkdir(name, DIRECTORY_MODE, dir_fd=root)
        with ExitStack() as stack:
            stack.callback(_remove_empty, name, root)
            try:
                directory = stack.enter_context(opened_directory(name, root))
                lock = opened_lock_file(_LOCK, directory)
                stack.callback(os.close, lock)
                _lock(lock, directory)
            except (FileNotFoundError, BlockingIOError):
                # A service that starts has taken it for a leftover before it was locked.
                continue
            try:
                yield directory
            finally:
                # What cannot be removed now is tried again at the next start.
                if removes:
                    with suppress(OSError):
                        remove_all_in(directory, but=_LOCK)
            return


def write_staged(directory: int, contents: Iterable[bytes], user: BotUser) -> list[str]:
    """Write each content to a file of its own in a staging directory; returns their names, in the same order."""
    names = []
    for number, content in enumerate(contents):
        names.append(str(number))
        write_file(names[-1], directory, content, user)
    return names


def remove_bot_directory(bot_id: str, root: int, below: str = "") -> None:
    """Remove a bot's directory from a root: in one step from its place, and then all that was in it.

    ``below``: a directory of the root that has it instead.
    """
    with opened_directory(below or ".", root) as parent, staging_directory(root) as staging:
        os.rename(bot_id, _REMOVED, src_dir_fd=parent, dst_dir_fd=staging)
        fsync_directory(parent)
        remove_all_in(staging, but=_LOCK)


def remove_leftovers(root: Path) -> None:
    """Remove what killed processes have left in the root. Logs what cannot be removed."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        # A missing root has an error of its own, in the calls that need it.
        return
    try:
        for name in (name for name in names_in(descriptor) if name.startswith(STAGING_PREFIX)):
            try:
                _remove_unlocked(name, descriptor)
            except FileNotFoundError:
                # The call that used it has removed it.
                pass
            except OSError as exc:
                _log.warning("%s, which an interrupted call left, cannot be removed: %s", root / name, exc.strerror)
    finally:
        os.close(descriptor)


def _remove_empty(name: str, root: int) -> None:
    with suppress(OSError):
        with suppress(FileNotFoundError), opened_directory(name, root) as directory:
            os.unlink(_LOCK, dir_fd=directory)
        os.rmdir(name, dir_fd=root)


def _lock(lock: int, directory: int) -> None:
    """Raises :class:`BlockingIOError` or :class:`FileNotFoundError` if the directory has been taken for a leftover."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # The file system has no locks, and so nothing is taken for a leftover.
        return
    if not os.path.samestat(os.fstat(lock), os.stat(_LOCK, dir_fd=directory, follow_symlinks=False)):
        raise FileNotFoundError


def _remove_unlocked(name: str, root: int) -> None:
    with opened_directory(name, root) as directory:
        lock = opened_lock_file(_LOCK, directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_all_in(directory, but=_LOCK)
            # While it is locked: a call that has opened it just now sees that the directory is not to be used.
            os.unlink(_LOCK, dir_fd=directory)
        except BlockingIOError:
            # In use by a call of this service, or of another one on the same root.
            return
        finally:
            # NFS keeps a removed file in its directory until the file is closed.
            os.close(lock)
    os.rmdir(name, dir_fd=root)
