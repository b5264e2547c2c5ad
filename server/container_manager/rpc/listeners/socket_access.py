"""Who may open a unix socket: its mode and group, and those of the directory that is made for it."""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from container_manager.config import DEFAULT_SOCKET_MODE
from container_manager.errors import StartupError

_DIRECTORY_MODE = 0o750
_PARENT_MODE = 0o755
_MOST_MODE = 0o770


@dataclass(frozen=True)
class SocketAccess:
    """Rights of the owner and of one group. Nothing has more than these rights at any moment."""

    mode: int = DEFAULT_SOCKET_MODE
    gid: int | None = None
    """``None``: the group of whoever makes the file."""

    def make_directory(self, directory: Path) -> None:
        """Make the directory for its owner and the group, mode 0750, unless there is one. Raises StartupError."""
        try:
            for parent in reversed(directory.parents):
                if not parent.exists():
                    parent.mkdir(_PARENT_MODE, exist_ok=True)
            try:
                directory.mkdir(0o700)
            except FileExistsError:
                if directory.is_dir():
                    return
                raise
            try:
                self._give(directory, os.O_RDONLY | os.O_DIRECTORY, _DIRECTORY_MODE)
            except BaseException:
                # Or the next start would take it for one that somebody else has made as it is.
                directory.rmdir()
                raise
        except OSError as exc:
            raise StartupError(f"the directory {directory} cannot be made: {exc.strerror}") from exc

    def grant(self, path: Path) -> None:
        """Give the socket, which only its owner can open so far, its group and mode. Raises StartupError."""
        try:
            self._give(path, os.O_PATH, self.mode)
        except OSError as exc:
            raise StartupError(f"the socket {path} cannot be given its mode: {exc.strerror}") from exc

    def _give(self, path: Path, flags: int, mode: int) -> None:
        # By descriptor: what has taken the path's place meanwhile gets nothing.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            itself = f"/proc/self/fd/{descriptor}"
            if self.gid is not None:
                try:
                    os.chown(itself, -1, self.gid)
                except PermissionError:
                    raise StartupError(
                        f"{path} cannot be given to the group {self.gid}: this user must be a member of it"
                    ) from None
            # Last: before, the rights would be those of another group.
            Path(itself).chmod(mode)
        finally:
            os.close(descriptor)


def socket_access(mode: int, group: str | None) -> SocketAccess:
    """The access that is asked for; ``group``: a name or a number. Raises :class:`StartupError` when it can't be."""
    if mode & stat.S_IRWXO:
        raise StartupError(
            f"the socket mode {mode:04o} gives rights to every user, and whoever opens the socket controls every bot; "
            "give rights to a group, as in --socket-mode 0660 --socket-group GROUP"
        )
    if mode & ~_MOST_MODE:
        raise StartupError(f"the socket mode {mode:04o} must be one of owner and group, as 0660 is")
    return SocketAccess(mode, None if group is None else _gid(group))


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isascii() and group.isdigit() and int(group) < 2**32 - 1:
            return int(group)
        raise StartupError(f"there is no group {group!r} for the socket; make it first: groupadd {group}") from None
