"""Why nothing answers at a target: what gRPC leaves unsaid is found out by knocking at the socket."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from botctl.connection import CHOOSE_TARGET, Connection
from botctl.http2_greeting import speaks_something_else
from botctl.outcomes import ExitCode
from botctl.tcp_reachability import Why, why_tcp_unreachable

_START = "start it with: container-manager serve"


def why_unreachable(connection: Connection, grpc_message: str) -> Why:
    """The exit code for it, and a line that says what to do."""
    path = connection.socket
    why = why_tcp_unreachable(connection) if path is None else _why_socket_unreachable(connection, path)
    return why or (
        ExitCode.NO_SERVICE,
        f"the service at {connection.target} did not answer ({grpc_message}); if that stays so, look at its log, or "
        + CHOOSE_TARGET,
    )


def _why_socket_unreachable(connection: Connection, path: Path) -> Why | None:
    try:
        is_other = _knock(path)
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
    if isinstance(exc, _NoSocketError):
        return ExitCode.NO_SERVICE, f"{path} is no socket; {CHOOSE_TARGET}"
    if isinstance(exc, ConnectionRefusedError):
        return ExitCode.NO_SERVICE, f"nobody serves the socket {path} any more; {_START}, or {CHOOSE_TARGET}"
    return ExitCode.NO_SERVICE, f"{path} cannot be opened: {exc.strerror or exc}"


class _NoSocketError(OSError):
    """Something else lies there; the system says no more than that it refuses."""


def _knock(path: Path) -> bool:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise _NoSocketError
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        probe.connect(os.fsencode(path))
        return speaks_something_else(probe)


def _group_of(path: Path) -> str:
    # The directory that keeps others out may be one further up; only what can be told is told.
    for candidate in (path, *path.parents):
        try:
            found = candidate.stat()
            group = grp.getgrgid(found.st_gid).gr_name
        except (OSError, KeyError):
            continue
        return "" if found.st_mode & stat.S_IRWXO else f" ({group})"
    return ""
