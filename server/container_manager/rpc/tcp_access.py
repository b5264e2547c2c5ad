"""What callers over TCP must show: a token, and beyond this machine a client certificate too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import structlog

from container_manager.config import ServerConfig
from container_manager.rpc.listener import Address, TcpAddress
from container_manager.rpc.startup_error import StartupError
from container_manager.rpc.tls_files import TlsFiles
from container_manager.rpc.token_file import read_or_make_token

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TcpAccess:
    """Of all TCP listeners alike."""

    token: str | None = None
    credentials: grpc.ServerCredentials | None = None
    """``None``: plain text."""


def tcp_access(addresses: Iterable[Address], config: ServerConfig) -> TcpAccess:
    """What the configuration asks for. Raises :class:`StartupError` when it is not enough, or cannot be had.

    Token and client certificate come on top of each other: neither a stolen token nor a certificate alone lets in.
    """
    tcp = [address for address in addresses if isinstance(address, TcpAddress)]
    if not tcp:
        return TcpAccess()
    for address in tcp:
        check_reach(address, config)
    credentials = TlsFiles(config.tls).credentials() if config.tls is not None else None
    if config.insecure_no_auth:
        who = "any process on this machine" if credentials is None else "whoever has a client certificate"
        _log.warning(f"TCP is served without authentication by token: {who} can control every bot")
        return TcpAccess(None, credentials)
    if config.token_file is None:
        raise StartupError("a TCP listener needs a token file")
    return TcpAccess(read_or_make_token(config.token_file), credentials)


def check_reach(address: TcpAddress, config: ServerConfig) -> None:
    """Raise :class:`StartupError` where other machines could come, and too little is asked of them."""
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
