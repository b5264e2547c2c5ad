"""What a client shows a TLS listener, and by what it knows it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import grpc

Pem = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class TlsFiles:
    """Each a path, or the content itself as bytes, in PEM form."""

    ca: Pem
    """The authorities that may have signed the server's certificate. The system's own are not asked."""
    cert: Pem
    """The client's certificate, followed by its intermediate ones."""
    key: Pem
    """Its private key."""

    def __repr__(self) -> str:
        # A key that was given as bytes is for no log.
        return f"{type(self).__name__}(...)"

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel; files are read now. Raises :class:`OSError`, and :class:`ValueError` for other content."""
        ca, cert, key = (_pem(field.name, getattr(self, field.name)) for field in fields(self))
        return grpc.ssl_channel_credentials(ca, key, cert)


def _pem(name: str, given: Pem) -> bytes:
    content = given if isinstance(given, bytes) else Path(given).read_bytes()
    # gRPC says of other content no more than that there is no connection.
    if b"-----BEGIN " not in content:
        where = "the bytes" if isinstance(given, bytes) else str(given)
        raise ValueError(f"tls.{name}: {where} must be in PEM form")
    return content
