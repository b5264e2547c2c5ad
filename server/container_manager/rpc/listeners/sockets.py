"""Sockets to listen on: free ports, and the directory, mode and lock of a unix socket."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from container_manager.addresses import TcpAddress
from container_manager.errors import StartupError
from container_manager.rpc.listeners.socket_access import SocketAccess
from container_manager.rpc.listeners.socket_path import SocketPath

_SOCKET_UMASK = 0o077

_log = structlog.get_logger(__name__)


def check_free(address: TcpAddress) -> None:
    """Raises :class:`StartupError` when somebody listens there, or nobody can."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as exc:
            raise StartupError(f"cannot listen on {address}: {exc.strerror}") from exc


@contextmanager
def unix_socket_path(path: Path, access: SocketAccess | None = None) -> Iterator[SocketPath]:
    """Hold ``path`` for this process alone; once bound, ``access`` says who may open it.

    The directory is made, mode 0750, when missing. A stale socket is removed, on entry as on exit; a live one, or
    anything that is no socket, is left alone and refused. Raises :class:`StartupError`.
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
    """Sockets bound inside are their owner's alone from their first moment on.

    For this short time only, and with no right of the owner's taken away: other threads make directories meanwhile.
    """
    before = os.umask(_SOCKET_UMASK)
    try:
        yield
    finally:
        os.umask(before)
