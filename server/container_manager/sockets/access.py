"""Who may open a unix socket: its mode and group, and those of a directory that is created for it."""

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
    """Rights of the owner and one group. No file has more rights than these at any moment."""

    mode: int = DEFAULT_SOCKET_MODE
    gid: int | None = None
    """``None``: the process's own group."""

    def make_directory(self, directory: Path) -> None:
        """Create a missing directory with mode 0750 for the owner and the group. Raises :class:`StartupError`."""
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
                # Otherwise the next start would accept the directory as the operator's own.
                directory.rmdir()
                raise
        except OSError as exc:
            raise StartupError(f"the directory {directory} cannot be made: {exc.strerror}") from exc

    def grant(self, path: Path) -> None:
        """Set the group and mode of a socket that only its owner can open so far. Raises :class:`StartupError`."""
        try:
            self._give(path, os.O_PATH, self.mode)
        except OSError as exc:
            raise StartupError(f"the socket {path} cannot be given its mode: {exc.strerror}") from exc

    def _give(self, path: Path, flags: int, mode: int) -> None:
        # By descriptor, so that a file that has replaced the path meanwhile gets no rights.
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
            # The mode comes last; before the change of group it would grant rights to another group.
            Path(itself).chmod(mode)
        finally:
            os.close(descriptor)


def socket_access(mode: int, group: str | None) -> SocketAccess:
    """Access by mode and by the group's name or number. Raises :class:`StartupError` for an invalid one."""
    if mode & stat.S_IRWXO:
        raise StartupError(
            f"the socket mode {mode:04o} gives rights to every user, and whoever opens the socket controls every bot; "
            "give rights to a group, as in --socket-mode 0660 --socket-group GROUP"
        )
    if mode & ~_MOST_MODE:
        raise StartupError(f"the socket mode {mode:04o} may grant rights to owner and group only, such as 0660")
    return SocketAccess(mode, None if group is None else _gid(group))


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isascii() and group.isdigit() and int(group) < 2**32 - 1:
            return int(group)
        raise StartupError(f"there is no group {group!r} for the socket; make it first: groupadd {group}") from None
