"""A TLS client's files for the options of ``botctl``, and certificates that no service accepts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from botctl.tls_files import TlsPaths
from container_manager_client import TlsFiles
from tests.support.certificates import CLIENT, Authority, put


@dataclass(frozen=True)
class ClientFiles:
    """The three files, written into a directory."""

    directory: Path
    content: TlsFiles

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            put(self.directory / name, getattr(self.content, name))

    @property
    def paths(self) -> TlsPaths:
        """The paths of the files."""
        return TlsPaths(*(str(self.directory / name) for name in ("ca", "cert", "key")))

    @property
    def options(self) -> list[str]:
        """The options of the command line."""
        paths = self.paths
        return ["--tls-ca", paths.ca, "--tls-cert", paths.cert, "--tls-key", paths.key]


def not_yet_valid(authority: Authority) -> TlsFiles:
    """A client of the authority whose certificate is valid from tomorrow."""
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    leaf = authority.ca.issue_cert(CLIENT, not_before=tomorrow, not_after=tomorrow + dt.timedelta(days=1))
    return TlsFiles(authority.pem, leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())


def for_servers_only(authority: Authority) -> TlsFiles:
    """A client with a certificate that the authority issued for servers only."""
    signer = serialization.load_pem_private_key(authority.ca.private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder(x509.load_pem_x509_certificate(authority.pem).subject, x509.Name([]), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TlsFiles(authority.pem, cert.public_bytes(serialization.Encoding.PEM), key_pem)
