"""Checks of unix sockets: mode, group, and whether a server answers."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from container_manager.config import DEFAULT_SOCKET_MODE
from container_manager.doctor.finding import Finding, Verdict
from container_manager.doctor.ownership import described, group_name, user_name
from container_manager.errors import StartupError
from container_manager.rpc.listeners.socket_access import socket_access

_NAME = "socket"
_CONNECT_SECONDS = 1.0


def check_socket(path: Path, mode: int = DEFAULT_SOCKET_MODE, group: str | None = None) -> Finding:
    """The first problem of the socket, or that it is fine; ``mode`` and ``group``: those that the service sets."""
    if refused := _refused(path, mode, group):
        return refused
    try:
        directory = path.parent.stat()
    except FileNotFoundError:
        return Finding(_NAME, Verdict.OK, f"{path}: nothing there yet; the service creates its directory at start")
    except OSError as exc:
        return Finding(_NAME, Verdict.FAILED, f"{path.parent}: {exc.strerror}", "run it as a user that may enter it")
    open_to_all = bool(directory.st_mode & stat.S_IXOTH)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return _about_directory(path, "nothing there yet", open_to_all=open_to_all)
    except OSError as exc:
        remedy = f"run it as a user that may enter {path.parent}"
        return Finding(_NAME, Verdict.FAILED, f"{path}: {exc.strerror}", remedy)
    return _about_socket(path, found, mode, open_to_all=open_to_all)


def _refused(path: Path, mode: int, group: str | None) -> Finding | None:
    """Why the service cannot set that mode and group; ``None`` if it can."""
    try:
        gid = socket_access(mode, group).gid
    except StartupError as exc:
        return Finding(_NAME, Verdict.FAILED, str(exc), "give another --socket-mode or --socket-group")
    if gid is None or os.geteuid() == 0 or gid in {os.getegid(), *os.getgroups()}:
        return None
    user = user_name(os.geteuid())
    detail = f"{path} cannot be given to the group {group_name(gid)}: the user {user} is not a member of it"
    return Finding(_NAME, Verdict.FAILED, detail, f"usermod -aG {group_name(gid)} {user}")


def _about_socket(path: Path, found: os.stat_result, mode: int, *, open_to_all: bool) -> Finding:
    if not stat.S_ISSOCK(found.st_mode):
        return Finding(_NAME, Verdict.FAILED, f"{path} is not a socket", "move it away, or give another --listen")
    there = f"{described(found)}, {_who_answers(path)}"
    if found.st_mode & stat.S_IWOTH and open_to_all:
        remedy = f"chmod o-rwx {path}; whoever opens it controls every bot"
        return Finding(_NAME, Verdict.FAILED, f"{path}: {there}: any user may open it", remedy)
    if stat.S_IMODE(found.st_mode) != mode:
        detail = f"{path}: {there}; its mode is not the --socket-mode {mode:04o}"
        return Finding(_NAME, Verdict.WARNING, detail, f"chmod {mode:04o} {path}, or restart the service")
    return _about_directory(path, there, open_to_all=open_to_all)


def _about_directory(path: Path, there: str, *, open_to_all: bool) -> Finding:
    if open_to_all:
        detail = f"{path}: {there}; any user may enter {path.parent}; only the socket's mode keeps them out"
        return Finding(_NAME, Verdict.WARNING, detail, f"chmod o-rwx {path.parent}, or use a separate directory")
    return Finding(_NAME, Verdict.OK, f"{path}: {there}")


def _who_answers(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except PermissionError:
            return "this user may not open it"
        except OSError:
            return "no server answers"
    return "a server answers"
