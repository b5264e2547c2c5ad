"""Whether a bot can use its directories on an engine that remaps users (``dockerd --userns-remap``).

In such an engine's containers, user 1000 is user ``base + 1000`` of the host. A file of a user below the base or beyond
the range belongs to nobody there, and a bot can use it only if its mode lets everybody.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from container_manager.bot_directories import DEFAULT_BOT_USER, BotUser, RootDirectory
from container_manager.errors import ContainerManagerError, SecretsUnavailableError, StateUnavailableError

# The range that useradd(8) gives each user in /etc/subuid and /etc/subgid.
_USERS = 65_536
# The engine's own data is in a directory of this name (moby, daemon.setupDaemonRoot).
_ROOT_DIRECTORY = re.compile(r"/(\d+)\.(\d+)/?$")


@dataclass(frozen=True)
class UserNamespace:
    """The user and the group of the host that are root in each container."""

    uid: int
    gid: int

    def on_host(self, user: BotUser) -> BotUser:
        """The user of this host that ``user`` of a container is. A number from the base on is the host's already."""
        uid, gid = (
            number if number >= base else base + number for number, base in zip(user, (self.uid, self.gid), strict=True)
        )
        return BotUser(uid, gid)

    def fault_of(self, found: os.stat_result, rights: int, user: BotUser = DEFAULT_BOT_USER) -> str | None:
        """Why no user of a container can have these ``rights`` (a mode's lowest digit); ``None``: one can.

        ``user``: the bots' user in a container, for the remedy.
        """
        mode = stat.S_IMODE(found.st_mode)
        owner = self.uid <= found.st_uid < self.uid + _USERS and mode >> 6 & rights == rights
        group = self.gid <= found.st_gid < self.gid + _USERS and mode >> 3 & rights == rights
        if owner or group or mode & rights == rights:
            return None
        return (
            f"belongs to {found.st_uid}:{found.st_gid} with mode {mode:04o}, which gives no user of a bot's container "
            f"the right to use it: the engine remaps {_USERS} users, from {self.uid}:{self.gid} on; "
            "give it to {}:{}".format(*self.on_host(user))
        )

    def fault_for_uid(self, uid: int, user: BotUser, found: os.stat_result, rights: int) -> str | None:
        """Why user ``uid`` of a container certainly does not have these ``rights``; ``None``: it has, or may have.

        ``user``: the bots' user in a container, for the remedy. Which groups ``uid`` has is not known: if the group has
        the right, it may have it.
        """
        made_for = self.on_host(user)
        mode, owner = stat.S_IMODE(found.st_mode), BotUser(self.uid + uid, made_for.gid)
        is_mapped = self.gid <= found.st_gid < self.gid + _USERS
        allowed = mode >> 6 if found.st_uid == owner.uid else mode | mode >> 3 if is_mapped else mode
        if allowed & rights == rights:
            return None
        fault = _no_right(found, uid, owner)
        if found.st_uid == made_for.uid != owner.uid:
            fault += ". The service makes it for --bot-user, which must be the image's user"
        return fault

    def fault_for(self, user: BotUser, found: os.stat_result, rights: int) -> str | None:
        """Why ``user`` of a container does not have these ``rights``; ``None``: it has."""
        mode, on_host = stat.S_IMODE(found.st_mode), self.on_host(user)
        shift = 6 if found.st_uid == on_host.uid else 3 if found.st_gid == on_host.gid else 0
        if mode >> shift & rights == rights:
            return None
        return _no_right(found, user.uid, on_host)


def _no_right(found: os.stat_result, uid: int, owner: BotUser) -> str:
    return (
        f"belongs to {found.st_uid}:{found.st_gid} with mode {stat.S_IMODE(found.st_mode):04o}, which gives user {uid} "
        "of a bot's container no right to use it; give it to {}:{}".format(*owner)
    )


def user_namespace(info: Mapping[str, Any]) -> UserNamespace | None:
    """The user namespace of all containers, from the engine's ``/info``; ``None``: users are those of the host."""
    options = info.get("SecurityOptions") or ()
    root = _ROOT_DIRECTORY.search(str(info.get("DockerRootDir") or ""))
    if root is None or not any("name=userns" in str(option).split(",") for option in options):
        return None
    return UserNamespace(int(root[1]), int(root[2]))


def check_secrets_usable(
    root: RootDirectory,
    bot_id: str,
    namespace: UserNamespace,
    user: BotUser = DEFAULT_BOT_USER,
    uid: int | None = None,
) -> None:
    """Raise :class:`SecretsUnavailableError` if the bot certainly cannot read each of its secrets.

    ``uid``: the bot's own user in its container; ``None``: it may be any. In an empty directory it has nothing to read.
    """
    path, fault_of = root.path / bot_id, _judge(namespace, user, uid)
    for name, fault in _faults(root, bot_id, fault_of, directory=stat.S_IXOTH, files=stat.S_IROTH):
        if not name and uid is not None and _is_empty(path):
            return
        what = f"the secret {path / name}" if name else f"the secrets directory {path}"
        raise SecretsUnavailableError(f"{what} {fault}", bot_id=bot_id)


def check_state_usable(
    root: RootDirectory,
    bot_id: str,
    namespace: UserNamespace,
    user: BotUser = DEFAULT_BOT_USER,
    uid: int | None = None,
) -> None:
    """Raise :class:`StateUnavailableError` if the bot certainly cannot write to its state; ``uid`` likewise."""
    for _, fault in _faults(root, bot_id, _judge(namespace, user, uid), directory=stat.S_IRWXO):
        raise StateUnavailableError(f"the state directory {root.path / bot_id} {fault}", bot_id=bot_id)


def unusable_by_all_users(
    secrets: RootDirectory,
    state: RootDirectory | None,
    bot_ids: list[str],
    namespace: UserNamespace,
    user: BotUser = DEFAULT_BOT_USER,
) -> Iterator[str]:
    """What is wrong with the secrets and the states of these bots, one sentence for each bot: its start is refused."""
    for bot_id in bot_ids:
        try:
            check_secrets_usable(secrets, bot_id, namespace, user)
            if state is not None:
                check_state_usable(state, bot_id, namespace, user)
        except ContainerManagerError as exc:
            yield str(exc)


def unusable_by_user(
    secrets: RootDirectory,
    state: RootDirectory | None,
    bot_ids: list[str],
    namespace: UserNamespace,
    user: BotUser = DEFAULT_BOT_USER,
) -> Iterator[str]:
    """What keeps ``user`` of a container from the secrets and the states of these bots, one sentence for each bot.

    A bot may have another user, by its image.
    """
    fault_of = partial(namespace.fault_for, user)
    for bot_id in bot_ids:
        faults = [(secrets, _faults(secrets, bot_id, fault_of, directory=stat.S_IXOTH, files=stat.S_IROTH))]
        if state is not None:
            faults.append((state, _faults(state, bot_id, fault_of, directory=stat.S_IRWXO)))
        all_ = (f"{root.path / bot_id / name} {fault}" for root, found in faults for name, fault in found)
        yield from islice(all_, 1)


def _judge(namespace: UserNamespace, user: BotUser, uid: int | None) -> Callable[[os.stat_result, int], str | None]:
    return partial(namespace.fault_of, user=user) if uid is None else partial(namespace.fault_for_uid, uid, user)


def _is_empty(directory: Path) -> bool:
    """Whether it is, as far as this process may look."""
    with suppress(OSError):
        return not any(directory.iterdir())
    return False


def _has_acl(path: str | Path) -> bool:
    """Whether more than its mode decides who has which rights."""
    with suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    return False


def _faults(
    root: RootDirectory,
    bot_id: str,
    fault_of: Callable[[os.stat_result, int], str | None],
    *,
    directory: int,
    files: int = 0,
) -> Iterator[tuple[str, str]]:
    """Name and fault of the directory (its name is empty) and of its files, as far as this process may look."""
    path = root.path / bot_id
    try:
        if (fault := fault_of(path.lstat(), directory)) and not _has_acl(path):
            yield "", fault
        elif files:
            with os.scandir(path) as entries:
                for entry in entries:
                    # What a link leads to is another file, inside the bot's container.
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    if (fault := fault_of(entry.stat(), files)) and not _has_acl(entry.path):
                        yield entry.name, fault
    except OSError:
        return
