"""Prepares addresses for listening: checks ports, and holds the path of a unix socket."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from container_manager.addresses import TcpAddress
from container_manager.errors import AddressInUseError
from container_manager.sockets.access import SocketAccess
from container_manager.sockets.path import SocketPath

_SOCKET_UMASK = 0o077

_log = structlog.get_logger(__name__)


def check_free(address: TcpAddress) -> None:
    """Raise :class:`AddressInUseError` when the address is in use or cannot be bound."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as exc:
            raise AddressInUseError(f"cannot listen on {address}: {exc.strerror}") from exc


@contextmanager
def unix_socket_path(path: Path, access: SocketAccess | None = None) -> Iterator[SocketPath]:
    """Hold ``path`` for this process only; once bound, ``access`` decides who may open it.

    Creates a missing directory with mode 0750. Removes a stale socket, on entry and on exit. Raises
    :class:`StartupError` for a live socket, or for anything that is not a socket, and does not touch it.
    """
    held = SocketPath(path, access or SocketAccess())
    try:
        held.take()
        if path.parent.stat().st_mode & stat.S_IXOTH:
            _log.warning(
                "others may enter the socket's directory; only the socket's mode keeps them out", path=str(path)
            )
        yield held
    finally:
        held.release()


@contextmanager
def socket_umask() -> Iterator[None]:
    """Only the owner can open sockets that are bound inside, from the moment they exist.

    The umask applies to the whole process, so it is set for this short time only and removes no right of the owner:
    other threads may be creating directories.
    """
    before = os.umask(_SOCKET_UMASK)
    try:
        yield
    finally:
        os.umask(before)
