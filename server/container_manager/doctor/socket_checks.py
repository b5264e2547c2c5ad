"""Checks of unix sockets: mode and group, and whether a server has the path.

Before a start, nobody may have it; while the service runs, it has.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from container_manager.config import DEFAULT_SOCKET_MODE
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described, group_name, user_name
from container_manager.errors import StartupError
from container_manager.sockets.access import socket_access

_NAME = "socket"
_CONNECT_SECONDS = 1.0
IN_USE_REMEDY = "end it before another start; to examine a service that runs, give --running"
NOT_SERVED_REMEDY = "start the service, or give the --listen that it has"


class _FailedError(Exception):
    """``detail``, ``remedy``."""


def check_socket(
    path: Path, mode: int = DEFAULT_SOCKET_MODE, group: str | None = None, *, running: bool = False
) -> Finding:
    """The first problem of the socket, or that it is fine.

    ``mode`` and ``group``: those that the service sets. ``running``: the service is expected to serve there.
    """
    try:
        _check_access(path, mode, group)
        return _served(path, mode) if running else _about_directory(path, _free(path))
    except _FailedError as exc:
        return Finding(_NAME, Verdict.FAILED, *exc.args)
    except OSError as exc:
        return _not_entered(_NAME, path, exc)


def check_free_path(name: str, path: Path) -> Finding:
    """Before a start: whether the service can make a socket there that may be open to all."""
    try:
        return Finding(name, Verdict.OK, f"{path}: {_free(path)}")
    except _FailedError as exc:
        return Finding(name, Verdict.FAILED, *exc.args)
    except OSError as exc:
        return _not_entered(name, path, exc)


def _check_access(path: Path, mode: int, group: str | None) -> None:
    """Raise if the service cannot set that mode and group."""
    try:
        gid = socket_access(mode, group).gid
    except StartupError as exc:
        raise _FailedError(str(exc), "give another --socket-mode or --socket-group") from exc
    if gid is not None and os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}:
        user = user_name(os.geteuid())
        detail = f"{path} cannot be given to the group {group_name(gid)}: the user {user} is not a member of it"
        raise _FailedError(detail, f"usermod -aG {group_name(gid)} {user}")


def _not_entered(name: str, path: Path, exc: OSError) -> Finding:
    remedy = f"run it as a user that may enter {path.parent}"
    return Finding(name, Verdict.FAILED, f"{exc.filename or path}: {exc.strerror}", remedy)


def _free(path: Path) -> str:
    """Before a start: what is there. Raises if somebody has the path, or this user may not take it."""
    directory = next(parent for parent in path.parents if _there(parent))
    there = "nothing there yet"
    if _there(path):
        there = "no server answers; the next start replaces it"
        if _is_served(path):
            raise _FailedError(f"{path} is in use: a server has it", IN_USE_REMEDY)
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        user = user_name(os.geteuid())
        detail = f"{path} cannot be created: the user {user} may not write to {directory}"
        raise _FailedError(detail, f"install -d -m 0750 -o {user} {path.parent}")
    if directory != path.parent:
        return "nothing there yet; the service creates its directory at start"
    return there


def _served(path: Path, mode: int) -> Finding:
    """While the service runs: a server answers, and the socket has the service's mode."""
    if not _there(path) or not _is_served(path):
        raise _FailedError(f"{path}: no server answers", NOT_SERVED_REMEDY)
    found = path.lstat()
    there = f"{described(found)}, a server answers"
    if found.st_mode & stat.S_IWOTH and _open_to_all(path.parent):
        detail = f"{path}: {there}: any user may open it"
        raise _FailedError(detail, f"chmod o-rwx {path}; whoever opens it controls every bot")
    if stat.S_IMODE(found.st_mode) != mode:
        detail = f"{path}: {there}; its mode is not the --socket-mode {mode:04o}"
        return Finding(_NAME, Verdict.WARNING, detail, f"chmod {mode:04o} {path}, or restart the service")
    return _about_directory(path, there)


def _about_directory(path: Path, there: str) -> Finding:
    if _open_to_all(path.parent):
        detail = f"{path}: {there}; any user may enter {path.parent}; only the socket's mode keeps them out"
        return Finding(_NAME, Verdict.WARNING, detail, f"chmod o-rwx {path.parent}, or use a separate directory")
    return Finding(_NAME, Verdict.OK, f"{path}: {there}")


def _open_to_all(directory: Path) -> bool:
    return directory.exists() and bool(directory.stat().st_mode & stat.S_IXOTH)


def _there(path: Path) -> bool:
    """Whether anything has this name. Raises OSError for a directory that this user may not enter."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _is_served(path: Path) -> bool:
    """Whether a server has the socket, by the same sign as at a start."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise _FailedError(f"{path} is not a socket", "move it away, or give another --listen")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except PermissionError:
            remedy = "run it as the service's user, or as a member of the socket's group"
            raise _FailedError(f"{path}: this user may not open it", remedy) from None
        except ConnectionRefusedError:
            return False
        except OSError:
            # It does not accept connections in time, and a start does not take a path away from it.
            return True
    return True
