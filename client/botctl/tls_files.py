"""Checks the files of ``--tls-ca``, ``--tls-cert`` and ``--tls-key`` before gRPC reads them.

With invalid files gRPC only reports that it cannot connect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botctl.exit_codes import ExitCode, Failure
from botctl.input_files import read_input_file

if TYPE_CHECKING:
    from container_manager_client import TlsFiles

TLS_OPTIONS = {"ca": "--tls-ca", "cert": "--tls-cert", "key": "--tls-key"}
TLS_VARIABLES = {"ca": "BOTCTL_TLS_CA", "cert": "BOTCTL_TLS_CERT", "key": "BOTCTL_TLS_KEY"}
ALL_OPTIONS = "--tls-ca, --tls-cert and --tls-key"

# OpenSSL's reasons for a certificate and a key that do not match. The last one is for different algorithms.
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class TlsPaths:
    """The paths of the three files."""

    ca: str
    """The authorities that may sign the service's certificate."""
    cert: str
    """This client's certificate, followed by its intermediate certificates."""
    key: str
    """Its private key."""

    def read(self) -> TlsFiles:
        """Reads and checks the files. Raises :class:`Failure` that names the invalid file."""
        from container_manager_client import TlsFiles

        ca = read_input_file("TLS CA file", self.ca, instead="--tls-ca names the CA of the service's certificate")
        cert = read_input_file("TLS certificate", self.cert, instead="--tls-cert names this client's certificate")
        key = read_input_file("TLS key", self.key, instead="--tls-key names the key of the certificate in --tls-cert")
        _check_certificates("TLS CA file", self.ca, ca)
        _check_certificates("TLS certificate", self.cert, cert)
        self._check_pair()
        return TlsFiles(ca, cert, key)

    def _check_pair(self) -> None:
        import ssl

        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError as exc:
            if exc.reason in _MISMATCH:
                raise Failure(
                    f"the TLS key {self.key} does not match the certificate {self.cert}; name two that belong together",
                    ExitCode.USAGE,
                ) from exc
            raise Failure(
                f"the TLS key {self.key} is not a private key in PEM form without a password; name another, "
                "or convert it with: openssl pkey",
                ExitCode.USAGE,
            ) from exc


def tls_paths(ca: str | None, cert: str | None, key: str | None) -> TlsPaths | None:
    """The three paths, or ``None`` without any. Raises :class:`Failure` if one of them is missing or empty."""
    given = {"ca": ca, "cert": cert, "key": key}
    if all(path is None for path in given.values()):
        return None
    missing = [f"{TLS_OPTIONS[part]} (or {TLS_VARIABLES[part]})" for part, path in given.items() if not path]
    if missing or not (ca and cert and key):
        raise Failure(f"{ALL_OPTIONS} go together: give {' and '.join(missing)} as well, or none", ExitCode.USAGE)
    return TlsPaths(ca, cert, key)


def _check_certificates(what: str, name: str, content: bytes) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("latin-1"))
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise Failure(
            f"the {what} {name} has no certificate in PEM form; name another, or convert it with: openssl x509",
            ExitCode.USAGE,
        ) from exc
