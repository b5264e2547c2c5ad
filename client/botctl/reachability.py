"""Finds out why a target does not answer.

For TCP, gRPC's details of the failure say why. For a unix socket they do not, so this connects to the socket itself.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

from botctl.connection import CHOOSE_TARGET, Connection
from botctl.exit_codes import ExitCode
from botctl.http2_greeting import speaks_something_else
from botctl.tls_files import ALL_OPTIONS, TlsPaths

Why = tuple[ExitCode, str]

# Parts of gRPC's details: of OpenSSL's errors and of gRPC's own.
_NOT_TRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification", "peer certificate")
_NO_TLS = "WRONG_VERSION_NUMBER"
_NOT_HTTP2 = ("Failed parsing HTTP/2", "http1.x server", "ALPN")
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe", "_ALERT_")
_NOBODY = ("Connection refused", "No route to host", "unreachable", "errors resolving", "DNS resolution")
# It was not there during the call.
_GONE = (*_CLOSED, *_NOBODY, "No such file", "GOAWAY")
# Of deploy/systemd.
_UNIT = Path("/etc/systemd/system/container-manager.service")


def why_unreachable(connection: Connection, grpc_message: str) -> Why:
    """The exit code, and a line that says what to do. ``grpc_message``: gRPC's own details of the failure."""
    path = connection.socket
    why = _why_tcp(connection, grpc_message) if path is None else _why_socket_unreachable(connection, path)
    if why is None and any(word in grpc_message for word in _GONE):
        # It accepts connections again. gRPC's details are about one that is gone.
        return ExitCode.NOT_NOW, went_away(connection)
    return why or (
        ExitCode.NO_SERVICE,
        f"the service at {connection.target} did not answer ({grpc_message}); if this persists, look at its log, or "
        + CHOOSE_TARGET,
    )


def went_away(connection: Connection) -> str:
    """What to say of a call that did not survive a restart of the service."""
    return f"the service at {connection.target} ended or was restarted during the call; see what it did, and try again"


def _start() -> str:
    return f"start it with: {'systemctl start container-manager' if _UNIT.exists() else 'container-manager serve'}"


def _why_tcp(connection: Connection, details: str) -> Why | None:
    target, tls = connection.target, connection.tls
    if any(word in details for word in _NOT_TRUSTED):
        ca = "--tls-ca" if tls is None else tls.ca
        return ExitCode.NO_SERVICE, (
            f"the certificate of {target} is not accepted ({_last(details)}): it must be valid, contain the host of "
            f"--target, and be signed by an authority in {ca}"
        )
    if _NO_TLS in details:
        return ExitCode.NO_SERVICE, f"{target} is served without TLS: remove {ALL_OPTIONS}, or {CHOOSE_TARGET}"
    if any(word in details for word in _NOT_HTTP2):
        return connection.not_a_manager
    if any(word in details for word in _CLOSED):
        return ExitCode.NOT_ALLOWED, f"{target} closed the connection; {_what_tls_needs(tls)}"
    if any(word in details for word in _NOBODY):
        return ExitCode.NO_SERVICE, (
            f"no service answers at {target} ({_last(details)}); does it listen there "
            f"(container-manager serve --listen {target})? Otherwise {CHOOSE_TARGET}"
        )
    return None


def _what_tls_needs(tls: TlsPaths | None) -> str:
    """A listener with TLS closes the connection of a client without TLS, and of one whose certificate it refuses."""
    if tls is None:
        return f"if it is served with TLS, pass {ALL_OPTIONS}"
    return (
        f"if it does not accept the certificate {tls.cert}, pass one as --tls-cert that is valid, is for clients, and "
        "is signed by an authority in the service's --tls-client-ca"
    )


def _last(details: str) -> str:
    """The last and innermost cause in gRPC's details."""
    return details.rpartition("last error: ")[2].removesuffix(": OK")


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
        return ExitCode.NO_SERVICE, f"there is no socket {path}; {_start()}, or {CHOOSE_TARGET}"
    if isinstance(exc, _NotASocketError):
        return ExitCode.NO_SERVICE, f"{path} is not a socket; {CHOOSE_TARGET}"
    if isinstance(exc, ConnectionRefusedError):
        return ExitCode.NO_SERVICE, f"nobody serves the socket {path} any more; {_start()}, or {CHOOSE_TARGET}"
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
