"""Which service to talk to, and the channel to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from botctl.given_files import content_of
from botctl.outcomes import ExitCode, Failure
from botctl.tls_files import ALL_OPTIONS, TLS_VARIABLES, TlsPaths
from container_manager_client import connect

DEFAULT_TARGET = "unix:///run/botmaker/container-manager.sock"
SERVER_TOKEN_FILE = "/var/lib/botmaker/container-manager.token"  # noqa: S105 - where it lies, not what it is
TARGET_VARIABLE = "BOTCTL_TARGET"
TOKEN_FILE_VARIABLE = "BOTCTL_TOKEN_FILE"  # noqa: S105 - the same
CHOOSE_TARGET = f"name another with --target or {TARGET_VARIABLE}"
"""What to do about a target that is the wrong one."""
_MAX_UNIX_PATH_BYTES = 107


@dataclass(frozen=True)
class Connection:
    """What ``--target``, ``--token-file`` and the three options of TLS say."""

    target: str = DEFAULT_TARGET
    token_file: str | None = None
    tls: TlsPaths | None = None

    @property
    def socket(self) -> Path | None:
        """The unix socket; ``None`` for TCP."""
        return Path(self.target.removeprefix("unix://")) if self.target.startswith("unix://") else None

    @property
    def not_a_manager(self) -> tuple[ExitCode, str]:
        """The exit code for a server that turns out to be another one, and what to say of it."""
        return (
            ExitCode.NO_SERVICE,
            f"what serves {self.target} is no container manager, or an older one; {CHOOSE_TARGET}",
        )


def open_channel(connection: Connection) -> grpc.Channel:
    """The channel of a run: the one place that makes one. Raises :class:`Failure` for what can't be a target."""
    if connection.socket is not None and connection.tls is not None:
        raise Failure(
            f"{connection.target} is a unix socket, which has no TLS: leave out {ALL_OPTIONS} "
            f"({', '.join(TLS_VARIABLES.values())}), or name a tcp://host:port with --target",
            ExitCode.USAGE,
        )
    token = _token(connection.token_file) if connection.token_file else None
    tls = connection.tls.read() if connection.tls else None
    if connection.socket is not None and len(os.fsencode(connection.socket)) > _MAX_UNIX_PATH_BYTES:
        raise Failure(
            f"{connection.socket} is too long: a socket's path has at most {_MAX_UNIX_PATH_BYTES} bytes", ExitCode.USAGE
        )
    try:
        return connect(connection.target, token=token, tls=tls)
    except ValueError as exc:
        raise Failure(str(exc), ExitCode.USAGE) from exc


def _token(name: str) -> str:
    instead = f"the service makes its own ({SERVER_TOKEN_FILE} by default): copy that"
    content = content_of("token file", name, instead=instead)
    try:
        token = content.decode("ascii").strip()
    except ValueError as exc:
        raise Failure(f"the token file {name} cannot be read: {exc}", ExitCode.USAGE) from None
    if not token or not token.isprintable() or " " in token:
        raise Failure(f"the token file {name} must hold one line, the token", ExitCode.USAGE)
    return token
