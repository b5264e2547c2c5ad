"""The address of the service, and the channel to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botctl.exit_codes import ExitCode, Failure
from botctl.input_files import read_input_file
from botctl.tls_files import ALL_OPTIONS, TLS_VARIABLES, TlsPaths

if TYPE_CHECKING:
    import grpc

DEFAULT_TARGET = "unix:///run/botmaker/container-manager.sock"
SERVER_TOKEN_FILE = "/var/lib/botmaker/container-manager.token"  # noqa: S105 - a path, not a token
TARGET_VARIABLE = "BOTCTL_TARGET"
TOKEN_FILE_VARIABLE = "BOTCTL_TOKEN_FILE"  # noqa: S105 - the same
CHOOSE_TARGET = f"name another with --target or {TARGET_VARIABLE}"
"""The remedy for a wrong target."""
_MAX_UNIX_PATH_BYTES = 107


@dataclass(frozen=True)
class Connection:
    """The values of ``--target``, ``--token-file`` and the three TLS options."""

    target: str = DEFAULT_TARGET
    token_file: str | None = None
    tls: TlsPaths | None = None

    @property
    def socket(self) -> Path | None:
        """The unix socket; ``None`` for TCP."""
        return Path(self.target.removeprefix("unix://")) if self.target.startswith("unix://") else None

    @property
    def not_a_manager(self) -> tuple[ExitCode, str]:
        """The exit code and the message for a server that is not a container manager."""
        return (
            ExitCode.NO_SERVICE,
            f"the server at {self.target} is not a container manager, or is too old; {CHOOSE_TARGET}",
        )


def open_channel(connection: Connection) -> grpc.Channel:
    """Opens the channel. Raises :class:`Failure` for an invalid target, token file or TLS file."""
    if connection.socket is not None and connection.tls is not None:
        raise Failure(
            f"{connection.target} is a unix socket, which has no TLS: remove {ALL_OPTIONS} "
            f"({', '.join(TLS_VARIABLES.values())}), or use --target tcp://host:port",
            ExitCode.USAGE,
        )
    token = _token(connection.token_file) if connection.token_file else None
    tls = connection.tls.read() if connection.tls else None
    if connection.socket is not None and len(os.fsencode(connection.socket)) > _MAX_UNIX_PATH_BYTES:
        raise Failure(
            f"{connection.socket} is too long: a socket's path has at most {_MAX_UNIX_PATH_BYTES} bytes",
            ExitCode.USAGE,
        )
    from container_manager_client import connect

    try:
        return connect(connection.target, token=token, tls=tls)
    except ValueError as exc:
        raise Failure(str(exc), ExitCode.USAGE) from exc


def _token(name: str) -> str:
    instead = f"copy the file that the service creates ({SERVER_TOKEN_FILE} by default)"
    content = read_input_file("token file", name, instead=instead)
    try:
        token = content.decode("ascii").strip()
    except ValueError as exc:
        raise Failure(f"the token file {name} cannot be read: {exc}", ExitCode.USAGE) from None
    if not token or not token.isprintable() or " " in token:
        raise Failure(f"the token file {name} must hold one line, the token", ExitCode.USAGE)
    return token
