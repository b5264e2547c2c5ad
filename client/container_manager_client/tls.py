"""The certificates and the key that a client needs for a TLS listener."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import grpc

Pem = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class TlsFiles:
    """Each file is a path, or its content as bytes, in PEM form.

    A channel reads the files once, when it is opened. After they were renewed, open a new channel.
    """

    ca: Pem
    """The authorities that may sign the server's certificate. The system's own are not used."""
    cert: Pem
    """The client's certificate, followed by its intermediate certificates."""
    key: Pem
    """Its private key."""

    def __repr__(self) -> str:
        # Keeps a key that was given as bytes out of logs.
        return f"{type(self).__name__}(...)"

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises :class:`OSError` if it cannot, and :class:`ValueError` if one is not in PEM form."""
        ca, cert, key = (_pem(field.name, getattr(self, field.name)) for field in fields(self))
        return grpc.ssl_channel_credentials(ca, key, cert)


def _pem(name: str, given: Pem) -> bytes:
    content = given if isinstance(given, bytes) else Path(given).read_bytes()
    # With other content gRPC only reports that it cannot connect.
    if b"-----BEGIN " not in content:
        where = "the bytes" if isinstance(given, bytes) else str(given)
        raise ValueError(f"tls.{name}: {where} must be in PEM form")
    return content
