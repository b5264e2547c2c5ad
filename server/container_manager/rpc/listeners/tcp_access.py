"""What TCP callers must present: a token, and from other machines a client certificate as well."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from container_manager.addresses import Address, TcpAddress
from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager.nonblocking_open import open_nonblocking
from container_manager.rpc.listeners.server_certificates import ServerCertificates

_MIN_TOKEN_LENGTH = 16
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TcpAccess:
    """Applies to all TCP listeners."""

    token: str | None = None
    credentials: grpc.ServerCredentials | None = None
    """``None``: plain text."""


def tcp_access(addresses: Iterable[Address], config: ServerConfig) -> TcpAccess:
    """The access that the configuration describes. Raises :class:`StartupError` if it is too weak or unusable.

    With TLS, callers need both a client certificate and the token: neither is enough alone.
    """
    tcp = [address for address in addresses if isinstance(address, TcpAddress)]
    if not tcp:
        return TcpAccess()
    for address in tcp:
        check_reach(address, config)
    credentials = ServerCertificates(config.tls).credentials() if config.tls is not None else None
    if config.insecure_no_auth:
        who = "any process on this machine" if credentials is None else "whoever has a client certificate"
        _log.warning(f"TCP is served without authentication by token: {who} can control every bot")
        return TcpAccess(None, credentials)
    if config.token_file is None:
        raise StartupError("a TCP listener needs a token file")
    return TcpAccess(read_or_make_token(config.token_file), credentials)


def check_reach(address: TcpAddress, config: ServerConfig) -> None:
    """Raise :class:`StartupError` for an address that other machines can reach without TLS."""
    if address.is_loopback:
        return
    if config.insecure_no_auth:
        raise StartupError(
            f"{address} can be reached from other machines, and --insecure-no-auth is for loopback addresses alone: "
            "leave it out, or listen on 127.0.0.1 or [::1]"
        )
    if config.tls is None:
        raise StartupError(
            f"{address} can be reached from other machines, which takes TLS with client certificates: "
            "give --tls-cert, --tls-key and --tls-client-ca, or listen on 127.0.0.1 or [::1]"
        )


def read_or_make_token(path: Path) -> str:
    """The token in ``path``. Writes a new one with mode 0600 if the file does not exist.

    Raises :class:`StartupError` for a file that others may read, that is not this user's, or that holds no token.
    """
    if not os.path.lexists(path):
        try:
            return _made(path)
        except FileExistsError:
            # Another process has made one meanwhile.
            pass
        except FileNotFoundError:
            # Another process that has made one has removed this one's part file.
            if not os.path.lexists(path):
                raise StartupError(
                    f"the token file {path} cannot be made: there is no directory {path.parent}; "
                    "make it first, or choose another --token-file"
                ) from None
        except OSError as exc:
            raise StartupError(f"the token file {path} cannot be made: {exc.strerror}") from exc
    return read_token(path)


def _made(path: Path) -> str:
    """A new token. Its file has its name only when it is complete: half a token would stop every later start."""
    token = secrets.token_urlsafe(32)
    part = path.with_name(f".{path.name}-{secrets.token_hex(8)}.part")
    try:
        _write(part, token)
        # Unlike a rename, this replaces no token that another process has made.
        os.link(part, path)
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        _write(path, token)
    finally:
        part.unlink(missing_ok=True)
    # Starts that were killed have left theirs.
    for left in path.parent.glob(f".{glob.escape(path.name)}-{'[0-9a-f]' * 16}.part"):
        with suppress(OSError):
            left.unlink()
    return token


def _write(path: Path, token: str) -> None:
    """Make the file. Leaves none if it cannot be written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_token(path: Path) -> str:
    """The token in ``path``. Raises :class:`StartupError`."""
    if path.is_symlink():
        raise StartupError(f"the token file {path} is a symbolic link, which is never followed")
    try:
        with open_nonblocking(path, os.O_NOFOLLOW) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise StartupError(f"the token file {path} must be a file of this user's with mode 0600")
            token = file.read().decode(errors="replace").strip()
    except OSError as exc:
        raise StartupError(f"the token file {path} cannot be read: {exc.strerror}") from exc
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise StartupError(f"the token file {path} must hold one line of at least {_MIN_TOKEN_LENGTH} ASCII characters")
    return token
