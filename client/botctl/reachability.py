"""Finds out why a target does not answer. gRPC does not say why, so this connects to the socket itself."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from botctl.connection import CHOOSE_TARGET, Connection
from botctl.exit_codes import ExitCode
from botctl.http2_greeting import speaks_something_else
from botctl.tcp_reachability import Why, why_tcp_unreachable

_START = "start it with: container-manager serve"


def why_unreachable(connection: Connection, grpc_message: str) -> Why:
    """The exit code, and a line that says what to do."""
    path = connection.socket
    why = why_tcp_unreachable(connection) if path is None else _why_socket_unreachable(connection, path)
    return why or (
        ExitCode.NO_SERVICE,
        f"the service at {connection.target} did not answer ({grpc_message}); if this persists, look at its log, or "
        + CHOOSE_TARGET,
    )


def _why_socket_unreachable(connection: Connection, path: Path) -> Why | None:
    try:
        is_other = _connect(path)
    except OSError as exc:
        return _why_closed(path, exc)
    return connection.not_a_manager if is_other else None


def _why_closed(path: Path, exc: OSError) -> Why:
    if isinstance(exc, PermissionError):
        return ExitCode.NOT_ALLOWED, (
            f"no permission to open {path}: it is for its owner and group{_group_of(path)}; "
            "join that group and log in again, or use sudo"
        )
    if isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        return ExitCode.NO_SERVICE, f"there is no socket {path}; {_START}, or {CHOOSE_TARGET}"
    if isinstance(exc, _NotASocketError):
        return ExitCode.NO_SERVICE, f"{path} is not a socket; {CHOOSE_TARGET}"
    if isinstance(exc, ConnectionRefusedError):
        return ExitCode.NO_SERVICE, f"nobody serves the socket {path} any more; {_START}, or {CHOOSE_TARGET}"
    return ExitCode.NO_SERVICE, f"{path} cannot be opened: {exc.strerror or exc}"


class _NotASocketError(OSError):
    """The file is not a socket. The system only reports a refused connection."""


def _connect(path: Path) -> bool:
    """Whether something other than a gRPC server answers. Raises :class:`OSError`."""
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise _NotASocketError
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        probe.connect(os.fsencode(path))
        return speaks_something_else(probe)


def _group_of(path: Path) -> str:
    # The first path that this user may look at: a directory above the socket may be closed to the user.
    for candidate in (path, *path.parents):
        try:
            found = candidate.stat()
            group = grp.getgrgid(found.st_gid).gr_name
        except (OSError, KeyError):
            continue
        return "" if found.st_mode & stat.S_IRWXO else f" ({group})"
    return ""
