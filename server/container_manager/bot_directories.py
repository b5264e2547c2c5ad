"""The directories of one bot on the host: its secrets, and its state if a state root is configured.

Each directory has the bot's id as its name below its root. A symbolic link in its place is never followed, because it
could give one bot the secrets of another. The engine opens the directory by name again later, so a root that users
other than root and this process's user can write to is refused (:mod:`container_manager.root_ownership`).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from container_manager.errors import ContainerManagerError, SecretsUnavailableError, StateUnavailableError
from container_manager.root_ownership import fault_of_root


class BotUser(NamedTuple):
    """A user, such as the one that bots run as, and its group."""

    uid: int
    gid: int


SECRETS_TARGET = "/run/secrets"
"""Where a bot's secrets directory appears in its container."""
DEFAULT_STATE_MOUNT = "/home/node/.openclaw"
"""Where OpenClaw keeps its state, with the user of both images and unless its variables say otherwise."""
# The engine mounts its own there.
_ENGINES_OWN = ("/proc", "/sys", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/sbin/docker-init")

# The user "node", both in the official OpenClaw image and in images/openclaw.
DEFAULT_BOT_USER = BotUser(1000, 1000)


OnHost = Callable[[BotUser], BotUser]
"""Which user of this host a user of a bot's container is; they differ on an engine that remaps users."""


def same_user(user: BotUser) -> BotUser:
    """:data:`OnHost` of an engine that does not remap users."""
    return user


@dataclass(frozen=True)
class RootDirectory:
    """A directory that holds one directory per bot."""

    path: Path
    """As this process sees it."""
    engine_path: Path
    """The same directory as the engine sees it: a different path when this process runs in a container."""

    def source(self, bot_id: str) -> str:
        """The bot's directory, as a mount source for the engine."""
        return str(self.engine_path / bot_id)


def fault_of_state_mount(path: str) -> str | None:
    """Why no bot's state can be mounted at this path of its container; ``None``: it can."""
    if not path.startswith("/") or not path.isprintable():
        return "is not an absolute path of printable characters"
    if posixpath.normpath(path) != path or path == "/" or path.startswith("//"):
        return "is not the shortest form of a path below /"
    # In most images, /var/run is a link to /run.
    for place in (SECRETS_TARGET, f"/var{SECRETS_TARGET}", *_ENGINES_OWN):
        if f"{path}/".startswith(f"{place}/") or f"{place}/".startswith(f"{path}/"):
            return f"would hide {place}, or be hidden by it"
    return None


def check_secrets_directory(root: RootDirectory, bot_id: str) -> None:
    """Raise :class:`SecretsUnavailableError` unless the bot has a real directory below ``root``."""
    with opened_root(root, bot_id, "secrets", SecretsUnavailableError) as descriptor:
        check_directory(root, descriptor, bot_id, "secrets", SecretsUnavailableError)


def ensure_state_directory(root: RootDirectory, bot_id: str, user: BotUser = DEFAULT_BOT_USER) -> bool:
    """Create the bot's state directory with mode 0700, owned by ``user``, unless it exists; whether it did.

    An empty one that still belongs to this process is what a crash between the two steps leaves; it is completed.

    Raises :class:`StateUnavailableError` when something else is in its place or it cannot be created.
    """
    with opened_root(root, bot_id, "state", StateUnavailableError) as descriptor:
        try:
            os.mkdir(bot_id, mode=0o700, dir_fd=descriptor)
            try:
                _give_if_new(bot_id, descriptor, user)
            except OSError:
                os.rmdir(bot_id, dir_fd=descriptor)
                raise
        except FileExistsError:
            check_directory(root, descriptor, bot_id, "state", StateUnavailableError)
            with suppress(OSError):
                _give_if_new(bot_id, descriptor, user)
        except OSError as exc:
            raise StateUnavailableError(
                f"the state directory {root.path / bot_id} cannot be created: {exc.strerror}", bot_id=bot_id
            ) from exc
        else:
            return True
    return False


def remove_empty_state_directory(root: RootDirectory, bot_id: str) -> None:
    """Remove the bot's state directory if it is empty. Errors are ignored: an empty directory does no harm."""
    with (
        suppress(StateUnavailableError, OSError),
        opened_root(root, bot_id, "state", StateUnavailableError) as descriptor,
    ):
        os.rmdir(bot_id, dir_fd=descriptor)


def check_state_directory(root: RootDirectory, bot_id: str) -> bool:
    """Whether the bot has a state directory.

    Raises :class:`StateUnavailableError` if something other than a real directory is in its place.
    """
    with opened_root(root, bot_id, "state", StateUnavailableError) as descriptor:
        with suppress(FileNotFoundError):
            os.stat(bot_id, dir_fd=descriptor, follow_symlinks=False)
            check_directory(root, descriptor, bot_id, "state", StateUnavailableError)
            return True
        return False


def check_state_to_mount(root: RootDirectory, bot_id: str, mounted: Callable[[], bool]) -> None:
    """:func:`check_state_directory` before a start. Raises also if a directory is missing that the bot has ``mounted``.

    A container that is older than the state root does not mount it.
    """
    if not check_state_directory(root, bot_id) and mounted():
        place = root.path / bot_id
        raise StateUnavailableError(
            f"the state directory {place} does not exist; restore a backup of the bot, or mount the disk that has it",
            bot_id=bot_id,
        )


def _give_if_new(bot_id: str, root: int, user: BotUser) -> None:
    descriptor = os.open(bot_id, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        give_if_new(descriptor, user)
    except PermissionError:
        # A user without CAP_CHOWN, such as a developer, keeps the directory.
        if os.geteuid() == 0:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def opened_root(root: RootDirectory, bot_id: str, what: str, error: type[ContainerManagerError]) -> Iterator[int]:
    """The root by descriptor, so that every step uses this directory even if its name changes meanwhile.

    Raises ``error`` when it cannot be opened, and when other users could replace what it holds. ``what`` names the kind
    of root in the message.
    """
    try:
        descriptor = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        place = root.path / bot_id
        raise error(f"the {what} directory {place} cannot be reached: {exc.strerror}", bot_id=bot_id) from exc
    try:
        if fault := fault_of_root(os.fstat(descriptor)):
            raise error(
                f"the {what} root {root.path} {fault}, who could exchange a bot's directory for a link to anything; "
                "it must be root's or this service's own, and writable by its owner alone",
                bot_id=bot_id,
            )
        yield descriptor
    finally:
        os.close(descriptor)


def check_directory(
    root: RootDirectory, descriptor: int, bot_id: str, what: str, error: type[ContainerManagerError]
) -> None:
    """Raise ``error`` unless the bot has a real directory in this root, which is open as ``descriptor``."""
    path = root.path / bot_id
    try:
        mode = os.stat(bot_id, dir_fd=descriptor, follow_symlinks=False).st_mode
    except FileNotFoundError:
        remedy = "put the bot's secrets first" if error is SecretsUnavailableError else "create it first"
        raise error(f"the {what} directory {path} does not exist; {remedy}", bot_id=bot_id) from None
    except OSError as exc:
        raise error(f"the {what} directory {path} cannot be read: {exc.strerror}", bot_id=bot_id) from exc
    if stat.S_ISLNK(mode):
        raise error(f"the {what} directory {path} is a symbolic link, which is never followed", bot_id=bot_id)
    if not stat.S_ISDIR(mode):
        raise error(f"{path} is not a directory", bot_id=bot_id)


def give(descriptor: int, user: BotUser, mode: int | None = None) -> None:
    """Set owner and group of an open file or directory, and its mode unless that is ``None``, where they differ.

    A process without CAP_CHOWN keeps its own group where the owner is right: the group has no right to what is a bot's.
    """
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != user:
        try:
            os.fchown(descriptor, *user)
        except PermissionError as exc:
            if found.st_uid != user.uid:
                reason = f"the service needs CAP_CHOWN to give it to the bots' user {user.uid}"
                raise PermissionError(exc.errno, reason) from exc
    # A change of owner can clear bits of the mode.
    if mode is not None and stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)


def give_if_new(descriptor: int, user: BotUser, mode: int | None = None) -> None:
    """:func:`give` an empty directory of this process's user: one that was just created, or left so by a crash."""
    if os.fstat(descriptor).st_uid == os.geteuid():
        with os.scandir(descriptor) as entries:
            if not any(entries):
                give(descriptor, user, mode)
