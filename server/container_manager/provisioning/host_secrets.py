"""Bots' secrets in a directory of this host: a :class:`~container_manager.backend_provisioning.Secrets`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from container_manager.bot_directories import (
    BotUser,
    OnHost,
    RootDirectory,
    check_directory,
    give,
    opened_root,
    same_user,
)
from container_manager.errors import CapacityExceededError, SecretsUnavailableError
from container_manager.model import SecretInfo
from container_manager.provisioning.descriptors import (
    DIRECTORY_MODE,
    exists,
    failures_as,
    fsync_directory,
    is_directory,
    names_in,
    opened_directory,
)
from container_manager.provisioning.kept_tokens import TOKEN_NAME, KeptTokens
from container_manager.provisioning.requests import is_secret_name
from container_manager.provisioning.staging import (
    remove_bot_directory,
    remove_leftovers,
    staging_directory,
    write_staged,
)

_MAX_READ_BYTES = 16 * 1024 * 1024
"""All secrets of a bot, for a backup: four times what PutSecrets lets a bot have."""


class HostSecrets:
    """Each bot's secrets are the files of ``{root}/{bot_id}``, which only the bots' user can enter."""

    def __init__(self, root: RootDirectory, user: BotUser, host_user: OnHost = same_user) -> None:
        self._root = root
        self._user = user
        self._host_user = host_user
        self._tokens = KeptTokens()

    def put_secrets(
        self, bot_id: str, secrets: Mapping[str, bytes], *, replace_all: bool = False, run: int | None = None
    ) -> None:
        owner = self._host_user(self._user)
        with self._opened_root(bot_id) as root, staging_directory(root) as staging:
            staged = write_staged(staging, secrets.values(), owner)
            with suppress(FileExistsError):
                os.mkdir(bot_id, DIRECTORY_MODE, dir_fd=root)
                fsync_directory(root)
            with self._opened(bot_id, root) as directory:
                # Also one that a killed process has created and not yet given away.
                give(directory, owner, DIRECTORY_MODE)
                for name in secrets:
                    if is_directory(name, directory):
                        place = self._root.path / bot_id / name
                        raise SecretsUnavailableError(f"{place} is a directory; remove it first", bot_id=bot_id)
                if replace_all or TOKEN_NAME in secrets:
                    self._tokens.keep(bot_id, run, directory, root, staging)
                for source, name in zip(staged, secrets, strict=True):
                    os.rename(source, name, src_dir_fd=staging, dst_dir_fd=directory)
                if replace_all:
                    _move_others(directory, staging, secrets)
                os.fsync(directory)

    def token_of_run(self, bot_id: str, run: int) -> bytes:
        with self._opened_root(bot_id) as root:
            return self._tokens.of_run(bot_id, run, root)

    def forget_token(self, bot_id: str) -> None:
        with self._opened_root(bot_id) as root:
            self._tokens.forget(bot_id, root)

    def may_keep_token(self, bot_id: str) -> bool:  # noqa: ARG002 - the names of the files would have to be read
        return self._tokens.any_were_kept(self._root.path)

    def read_secrets(self, bot_id: str) -> Mapping[str, bytes]:
        contents: dict[str, bytes] = {}
        with self._opened_root(bot_id) as root:
            if not exists(bot_id, root):
                return contents
            with self._opened(bot_id, root) as directory:
                for name in filter(is_secret_name, names_in(directory)):
                    if (content := _content(name, directory)) is not None:
                        contents[name] = content
                    if sum(map(len, contents.values())) > _MAX_READ_BYTES:
                        raise CapacityExceededError(
                            f"the secrets have more than {_MAX_READ_BYTES} bytes", bot_id=bot_id
                        )
        return contents

    def list_secrets(self, bot_id: str) -> list[SecretInfo]:
        with self._opened_root(bot_id) as root:
            if not exists(bot_id, root):
                return []
            with self._opened(bot_id, root) as directory, os.scandir(directory) as entries:
                found = [(each.name, each.stat(follow_symlinks=False)) for each in entries if is_secret_name(each.name)]
        files = [SecretInfo(name, at.st_size, at.st_mtime_ns) for name, at in found if stat.S_ISREG(at.st_mode)]
        return sorted(files)

    def delete_secrets(self, bot_id: str, names: Collection[str], *, run: int | None = None) -> None:
        with self._opened_root(bot_id) as root:
            if not exists(bot_id, root):
                return
            with staging_directory(root) as staging, self._opened(bot_id, root) as directory:
                if TOKEN_NAME in names:
                    self._tokens.keep(bot_id, run, directory, root, staging)
                for name in names:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=directory)
                os.fsync(directory)

    def delete_all_secrets(self, bot_id: str) -> None:
        with self._opened_root(bot_id) as root:
            self._tokens.forget(bot_id, root)
            if exists(bot_id, root):
                check_directory(self._root, root, bot_id, "secrets", SecretsUnavailableError)
                remove_bot_directory(bot_id, root)

    def remove_leftovers(self) -> None:
        remove_leftovers(self._root.path)

    @contextmanager
    def _opened_root(self, bot_id: str) -> Iterator[int]:
        what = f"the secrets directory {self._root.path / bot_id}"
        with (
            failures_as(SecretsUnavailableError, what, bot_id),
            opened_root(self._root, bot_id, "secrets", SecretsUnavailableError) as root,
        ):
            yield root

    @contextmanager
    def _opened(self, bot_id: str, root: int) -> Iterator[int]:
        check_directory(self._root, root, bot_id, "secrets", SecretsUnavailableError)
        with opened_directory(bot_id, root) as directory:
            yield directory


def _content(name: str, directory: int) -> bytes | None:
    """The content of a file; ``None``: it is none, or is gone."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(_MAX_READ_BYTES + 1)


def _move_others(directory: int, staging: int, kept: Collection[str]) -> None:
    """Move what is not ``kept`` to where it is removed."""
    others = [name for name in names_in(directory) if name not in kept]
    for number, name in enumerate(others):
        os.rename(name, f"other-{number}", src_dir_fd=directory, dst_dir_fd=staging)
