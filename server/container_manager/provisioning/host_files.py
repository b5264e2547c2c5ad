"""Files in bots' state directories on this host: a :class:`~container_manager.backend_provisioning.Files`.

A bot owns its state directory and may change anything in it at any moment. So every directory on the way to a file is
opened by its name in the one before, without following links, and a file is renamed into the directory that was opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from container_manager.bot_directories import (
    BotUser,
    OnHost,
    RootDirectory,
    check_state_directory,
    ensure_state_directory,
    give_if_new,
    opened_root,
    same_user,
)
from container_manager.errors import StateUnavailableError
from container_manager.provisioning.descriptors import (
    DIRECTORY_MODE,
    failures_as,
    is_directory,
    opened_directory,
)
from container_manager.provisioning.host_states import MAINTENANCE_DIRECTORY
from container_manager.provisioning.requests import path_parts
from container_manager.provisioning.staging import (
    remove_bot_directory,
    remove_leftovers,
    staging_directory,
    write_staged,
)


class HostFiles:
    """Each bot's state is the directory ``{root}/{bot_id}``."""

    def __init__(self, root: RootDirectory | None, user: BotUser, host_user: OnHost = same_user) -> None:
        """``None``: bots keep no state."""
        self._root = root
        self._user = user
        self._host_user = host_user

    def put_files(self, bot_id: str, files: Mapping[str, bytes]) -> None:
        if self._root is None:
            raise StateUnavailableError(
                "the service keeps no state: it was started without a state root", bot_id=bot_id
            )
        owner = self._host_user(self._user)
        ensure_state_directory(self._root, bot_id, owner)
        with self._opened_root(self._root, bot_id) as root, opened_directory(bot_id, root) as state:
            for path in files:
                # Missing directories are created below.
                with (
                    self._naming(path, bot_id),
                    suppress(FileNotFoundError),
                    _opened_parent(path_parts(path), state) as parent,
                ):
                    _check_place(path, parent, bot_id)
            with staging_directory(root) as staging:
                staged = write_staged(staging, files.values(), owner)
                for source, path in zip(staged, files, strict=True):
                    *_, name = parts = path_parts(path)
                    with self._naming(path, bot_id), _opened_parent(parts, state, owner) as parent:
                        _check_place(path, parent, bot_id)
                        os.rename(source, name, src_dir_fd=staging, dst_dir_fd=parent)
                        os.fsync(parent)

    def delete_state(self, bot_id: str) -> None:
        if self._root is None:
            return
        # A link is refused and not removed: it is not what this service has made.
        check_state_directory(self._root, bot_id)
        with self._opened_root(self._root, bot_id) as root:
            for parent in ("", MAINTENANCE_DIRECTORY):
                with suppress(FileNotFoundError):
                    remove_bot_directory(bot_id, root, parent)

    def remove_leftovers(self) -> None:
        if self._root is not None:
            remove_leftovers(self._root.path)

    @staticmethod
    @contextmanager
    def _opened_root(root: RootDirectory, bot_id: str) -> Iterator[int]:
        with (
            failures_as(StateUnavailableError, f"the state directory {root.path / bot_id}", bot_id),
            opened_root(root, bot_id, "state", StateUnavailableError) as descriptor,
        ):
            yield descriptor

    @staticmethod
    @contextmanager
    def _naming(path: str, bot_id: str) -> Iterator[None]:
        with failures_as(StateUnavailableError, f"{path!a} in the bot's state directory", bot_id):
            yield


@contextmanager
def _opened_parent(parts: Sequence[str], state: int, user: BotUser | None = None) -> Iterator[int]:
    """The directory of a file below a state directory. Missing ones are created for ``user``; ``None``: an error."""
    directory = os.dup(state)
    try:
        for name in parts[:-1]:
            if user is not None:
                with suppress(FileExistsError):
                    os.mkdir(name, DIRECTORY_MODE, dir_fd=directory)
                    os.fsync(directory)
            with opened_directory(name, directory) as inner:
                if user is not None:
                    give_if_new(inner, user, DIRECTORY_MODE)
                following = os.dup(inner)
            os.close(directory)
            directory = following
        yield directory
    finally:
        os.close(directory)


def _check_place(path: str, parent: int, bot_id: str) -> None:
    if is_directory(path_parts(path)[-1], parent):
        raise StateUnavailableError(f"{path!a} in the bot's state directory is a directory", bot_id=bot_id)
