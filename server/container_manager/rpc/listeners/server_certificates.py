"""Reads and checks the certificate, key and client authority of the TLS listeners.

A certificate that is replaced on disk takes effect with the next handshake, without a restart.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import structlog

from container_manager.config import TlsConfig
from container_manager.errors import StartupError
from container_manager.nonblocking_open import open_nonblocking

_MAX_BYTES = 1_000_000

_log = structlog.get_logger(__name__)


class ServerCertificates:
    """The files of a :class:`TlsConfig`. Raises :class:`StartupError`, which names the file, unless all are valid."""

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._seen = self._identity()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that require a client certificate and follow changes of the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.replaced,  # type: ignore[arg-type] # None, for no change, is missing in the stubs
            require_client_authentication=True,
        )

    def replaced(self) -> grpc.ServerCertificateConfiguration | None:
        """The content of the files if they have changed and are valid; ``None``: keep the current certificates.

        gRPC calls this before each handshake, in its own thread.
        """
        identity = self._identity()
        if identity == self._seen:
            return None
        # Invalid files are read again only after their next change.
        self._seen = identity
        try:
            configuration = self._read()
        except StartupError as exc:
            _log.error("the TLS files have changed and cannot be used; going on with the ones before", problem=str(exc))
            return None
        _log.info("the TLS files have changed; new connections use them")
        return configuration

    def _identity(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(_identity(path) for path in (self._config.cert, self._config.key, self._config.client_ca))

    def _read(self) -> grpc.ServerCertificateConfiguration:
        cert = _content("certificate", self._config.cert)
        key = _content("key", self._config.key)
        client_ca = _content("client CA", self._config.client_ca)
        _check_certificates("certificate", self._config.cert, cert)
        _check_certificates("client CA", self._config.client_ca, client_ca)
        _check_pair(self._config, cert, key)
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _content(what: str, path: Path) -> bytes:
    try:
        with open_nonblocking(path) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                raise StartupError(f"the TLS {what} {path} must be a file in PEM form")
            if what == "key":
                _check_owner(path, found)
            return file.read(_MAX_BYTES)
    except OSError as exc:
        raise StartupError(f"the TLS {what} {path} cannot be read: {exc.strerror}") from exc


def _check_owner(path: Path, found: os.stat_result) -> None:
    # As in PostgreSQL: a group such as Debian's ssl-cert may read a key that root owns.
    ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    roots = found.st_uid == 0 and not found.st_mode & 0o037
    if not ours and not roots:
        raise StartupError(
            f"the TLS key {path} may be read or written by others: make it this user's with mode 0600, "
            "or root's with mode 0640"
        )


def _check_certificates(what: str, path: Path, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=content.decode("latin-1"))
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise StartupError(f"the TLS {what} {path} holds no certificate in PEM form") from exc


def _check_pair(config: TlsConfig, cert: bytes, key: bytes) -> None:
    with _as_file(cert) as cert_file, _as_file(key) as key_file:
        try:
            # Without any password, OpenSSL would ask for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError as exc:
            if exc.reason == "KEY_VALUES_MISMATCH":
                raise StartupError(f"the TLS key {config.key} is not that of the certificate {config.cert}") from exc
            raise StartupError(
                f"the TLS key {config.key} must hold a private key in PEM form, without a password"
                f" ({exc.reason or 'not understood'})"
            ) from exc


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A file in memory with this content, so that the checked content is what was read and no key is copied to disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
