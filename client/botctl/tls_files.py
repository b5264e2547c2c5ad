"""The files that ``--tls-ca``, ``--tls-cert`` and ``--tls-key`` name, looked at before gRPC gets them.

gRPC says of files that are no good no more than that there is no connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from botctl.given_files import content_of
from botctl.outcomes import ExitCode, Failure
from container_manager_client import TlsFiles

TLS_OPTIONS = {"ca": "--tls-ca", "cert": "--tls-cert", "key": "--tls-key"}
TLS_VARIABLES = {"ca": "BOTCTL_TLS_CA", "cert": "BOTCTL_TLS_CERT", "key": "BOTCTL_TLS_KEY"}
ALL_OPTIONS = "--tls-ca, --tls-cert and --tls-key"

# OpenSSL's words for a certificate and a key that are not each other's; the last for those of different algorithms.
_NO_PAIR = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class TlsPaths:
    """Where the three files are."""

    ca: str
    """The authorities that may have signed the service's certificate."""
    cert: str
    """This client's certificate, followed by its intermediate ones."""
    key: str
    """Its private key."""

    def read(self) -> TlsFiles:
        """Their content. Raises :class:`Failure` with the file at fault."""
        ca = content_of("TLS CA file", self.ca, instead="--tls-ca names who signed the service's certificate")
        cert = content_of("TLS certificate", self.cert, instead="--tls-cert names this client's certificate")
        key = content_of("TLS key", self.key, instead="--tls-key names the key of the certificate in --tls-cert")
        _check_certificates("TLS CA file", self.ca, ca)
        _check_certificates("TLS certificate", self.cert, cert)
        self._check_pair()
        return TlsFiles(ca, cert, key)

    def _check_pair(self) -> None:
        try:
            # With a password, be it a wrong one: without, OpenSSL would ask for it on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError as exc:
            if exc.reason in _NO_PAIR:
                raise Failure(
                    f"the TLS key {self.key} is not that of the certificate {self.cert}; name two that belong together",
                    ExitCode.USAGE,
                ) from exc
            raise Failure(
                f"the TLS key {self.key} holds no private key in PEM form that needs no password; name one that does, "
                "or convert it with: openssl pkey",
                ExitCode.USAGE,
            ) from exc


def tls_paths(ca: str | None, cert: str | None, key: str | None) -> TlsPaths | None:
    """The three that were given, or ``None`` for none. Raises :class:`Failure` for some, or for an empty one."""
    given = {"ca": ca, "cert": cert, "key": key}
    if all(path is None for path in given.values()):
        return None
    missing = [f"{TLS_OPTIONS[part]} (or {TLS_VARIABLES[part]})" for part, path in given.items() if not path]
    if missing or not (ca and cert and key):
        raise Failure(f"{ALL_OPTIONS} go together: give {' and '.join(missing)} as well, or none", ExitCode.USAGE)
    return TlsPaths(ca, cert, key)


def _check_certificates(what: str, name: str, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("latin-1"))
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise Failure(
            f"the {what} {name} holds no certificate in PEM form; name one that does, or convert it with: openssl x509",
            ExitCode.USAGE,
        ) from exc
