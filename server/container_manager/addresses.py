"""Addresses to listen on, as options write them: ``unix:///path`` and ``tcp://host:port``."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from container_manager.config import MAX_UNIX_PATH_BYTES
from container_manager.errors import StartupError


@dataclass(frozen=True)
class UnixAddress:
    """``unix:///path``."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"

    @property
    def grpc_target(self) -> str:
        """The address as gRPC writes it."""
        # gRPC reads a URI: it decodes a percent sign, and ends the path at "#" or "?".
        return f"unix:{quote(str(self.path))}"


@dataclass(frozen=True)
class TcpAddress:
    """``tcp://host:port`` with an IP address; port 0 lets the system pick one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{self._authority}:{self.port}"

    @property
    def grpc_target(self) -> str:
        """The address as gRPC writes it."""
        return f"{self._authority}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can connect."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def _authority(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """An address to listen on. Raises :class:`StartupError` with the reason why it is not one."""
    if text.startswith("unix://"):
        path = Path(text.removeprefix("unix://"))
        if not path.is_absolute() or not path.name or "\0" in text:
            raise StartupError(
                f"{text!r}: the path of a unix socket must be absolute, as in unix:///run/botmaker/cm.sock"
            )
        size = len(os.fsencode(path))
        if size > MAX_UNIX_PATH_BYTES:
            raise StartupError(
                f"{text!r}: the path of a unix socket has at most {MAX_UNIX_PATH_BYTES} bytes, not {size}"
            )
        return UnixAddress(path)
    if text.startswith("tcp://"):
        host, _, port = text.removeprefix("tcp://").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65_535:
            raise StartupError(f"{text!r}: needs a port from 0 to 65535, as in tcp://127.0.0.1:50051")
        if not _is_ip_address(host):
            raise StartupError(f"{text!r}: needs an IP address, as in tcp://127.0.0.1:50051")
        return TcpAddress(host, int(port))
    raise StartupError(f"{text!r} is not an address: write unix:///path or tcp://127.0.0.1:port")


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    # gRPC needs the zone of an IPv6 address escaped, and the kernel needs an existing zone: refuse both.
    return "%" not in host
