"""Certificates of authorities that exist for one test run, as files."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from container_manager.config import TlsConfig
from container_manager_client import TlsFiles

CLIENT = "api-tier@example.org"
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """An authority that signs servers and clients alike."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.ca.cert_pem.bytes()

    def signed(self, name: str, *, expired: bool = False) -> tuple[bytes, bytes]:
        """A certificate for the name with its chain, and the key."""
        validity = {"not_before": LONG_AGO, "not_after": YESTERDAY} if expired else {}
        leaf = self.ca.issue_cert(name, **validity)  # type: ignore[arg-type]
        return b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes()

    def client(self, *, trusts: Authority | None = None, expired: bool = False) -> TlsFiles:
        """The files of a client of this authority; ``trusts`` signs its servers, by default the same authority."""
        cert, key = self.signed(CLIENT, expired=expired)
        return TlsFiles((trusts or self).pem, cert, key)


def put(path: Path, content: bytes) -> None:
    """Replace the file atomically, readable by its owner only, as a renewal of certificates should."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.chmod(0o600)
    beside.replace(path)


def server_files(
    directory: Path,
    authority: Authority,
    name: str = "127.0.0.1",
    *,
    clients: Authority | None = None,
    expired: bool = False,
) -> TlsConfig:
    """Write a server's certificate and key and the authority of its clients; replaces existing files."""
    config = TlsConfig(directory / "cert.pem", directory / "key.pem", directory / "client-ca.pem")
    cert, key = authority.signed(name, expired=expired)
    put(config.key, key)
    put(config.cert, cert)
    put(config.client_ca, (clients or authority).pem)
    return config
