"""Finds out why a TCP target cannot be reached, with or without TLS, by connecting to it without gRPC."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

from botctl.connection import CHOOSE_TARGET, Connection
from botctl.exit_codes import ExitCode
from botctl.http2_greeting import speaks_something_else
from botctl.tls_files import ALL_OPTIONS, TlsPaths

_SECONDS = 5.0
# OpenSSL's verification errors of certificates.
_NOT_YET_VALID, _EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 62, 64
_OTHER_PURPOSE = 26
# Parts of the names that OpenSSL gives to the server's alerts about our certificate.
_ABOUT_OURS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")

Why = tuple[ExitCode, str]


def why_tcp_unreachable(connection: Connection) -> Why | None:
    """The exit code, and a line that says what to do. ``None`` if no problem is found."""
    target = connection.target
    try:
        return _without_tls(connection) if connection.tls is None else _with_tls(target, connection.tls)
    except (socket.gaierror, UnicodeError):
        return ExitCode.NO_SERVICE, f"the host {_address(target)[0]} is unknown; {CHOOSE_TARGET}"
    except OSError:
        return ExitCode.NO_SERVICE, (
            f"no service answers at {target}; does it listen there (container-manager serve --listen {target})? "
            f"Otherwise {CHOOSE_TARGET}"
        )


def _address(target: str) -> tuple[str, int]:
    host, _, port = target.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _opened(target: str) -> socket.socket:
    return socket.create_connection(_address(target), _SECONDS)


def _without_tls(connection: Connection) -> Why | None:
    with _opened(connection.target) as raw:
        if _speaks_tls(raw):
            return ExitCode.NOT_ALLOWED, f"{connection.target} is served with TLS: pass {ALL_OPTIONS}"
    with _opened(connection.target) as raw:
        return connection.not_a_manager if speaks_something_else(raw) else None


def _speaks_tls(raw: socket.socket) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(raw).close()
    except ssl.SSLError as exc:
        return "ALERT" in (exc.reason or "")
    except OSError:
        return False
    return True


def _with_tls(target: str, paths: TlsPaths) -> Why | None:
    host, _ = _address(target)
    raw = _opened(target)
    try:
        with raw, _context(paths).wrap_socket(raw, server_hostname=host) as connected:
            is_grpc = connected.selected_alpn_protocol() == "h2"
            taken = is_grpc and _is_taken(connected)
    except ssl.SSLCertVerificationError as exc:
        return ExitCode.NO_SERVICE, _about_theirs(target, paths, exc)
    except ssl.SSLEOFError:
        return _unfinished(target)
    except ssl.SSLError as exc:
        return _about_handshake(target, paths, exc.reason or "")
    except OSError:
        return _unfinished(target)
    if not is_grpc:
        return ExitCode.NO_SERVICE, f"the TLS server at {target} is not a container manager; {CHOOSE_TARGET}"
    return None if taken else _about_ours(target, paths)


def _is_taken(connected: ssl.SSLSocket) -> bool:
    """Whether the server accepts our certificate. In TLS 1.3 it checks it after our side of the handshake."""
    try:
        # A gRPC server sends first.
        return bool(connected.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


def _unfinished(target: str) -> Why:
    return ExitCode.NO_SERVICE, (
        f"{target} does not finish the TLS handshake; look at the log of the service, or {CHOOSE_TARGET}"
    )


def _about_handshake(target: str, paths: TlsPaths, reason: str) -> Why:
    if "ALERT" not in reason:
        return ExitCode.NO_SERVICE, f"{target} is served without TLS: remove {ALL_OPTIONS}, or {CHOOSE_TARGET}"
    if any(word in reason for word in _ABOUT_OURS):
        return _about_ours(target, paths)
    return ExitCode.NO_SERVICE, f"{target} refuses the TLS handshake ({reason}); look at the service's log"


def _context(paths: TlsPaths) -> ssl.SSLContext:
    # Like gRPC: use the CA file alone, and let any certificate in it end the chain.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(paths.ca)
    context.load_cert_chain(paths.cert, paths.key, password="")
    context.set_alpn_protocols(["h2"])
    return context


def _about_theirs(target: str, paths: TlsPaths, exc: ssl.SSLCertVerificationError) -> str:
    if exc.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        host, names = _address(target)[0], ", ".join(_names(target, paths)) or "nothing"
        return f"the certificate of {target} is not for {host} but for {names}; use that name in --target"
    if exc.verify_code == _EXPIRED:
        return f"the certificate of {target} has expired; the operator of the service must renew it (serve --tls-cert)"
    if exc.verify_code == _NOT_YET_VALID:
        return f"the certificate of {target} is not valid yet; compare this machine's clock with the service's"
    return (
        f"the certificate of {target} is not signed by an authority in {paths.ca} ({exc.verify_message}); "
        "pass the authority that signed it as --tls-ca"
    )


def _names(target: str, paths: TlsPaths) -> list[str]:
    """The names in the service's certificate. Its authority is trusted already."""
    context = _context(paths)
    context.check_hostname = False
    with (
        suppress(OSError),
        _opened(target) as raw,
        context.wrap_socket(raw, server_hostname=_address(target)[0]) as connected,
    ):
        named: Any = (connected.getpeercert() or {}).get("subjectAltName", ())
        return [value for _, value in named]
    return []


def _about_ours(target: str, paths: TlsPaths) -> Why:
    faults = {
        _EXPIRED: "has expired: have it renewed, and pass the new one as --tls-cert",
        _NOT_YET_VALID: "is not valid yet: correct this machine's clock, or get a new certificate",
        _OTHER_PURPOSE: "is not for clients: get one with the extended key usage clientAuth",
    }
    if fault := faults.get(_fault_of_ours(paths)):
        return ExitCode.NOT_ALLOWED, f"{target} does not accept the certificate {paths.cert}, which {fault}"
    return ExitCode.NOT_ALLOWED, (
        f"{target} does not accept the certificate {paths.cert}: pass one as --tls-cert that is signed by an authority "
        "in the service's --tls-client-ca"
    )


def _fault_of_ours(paths: TlsPaths) -> int:
    """OpenSSL's error for our own certificate, whoever signed it; 0 without one.

    The service does not report it, so this runs a handshake in memory with itself.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_verify_locations(paths.cert)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.load_cert_chain(paths.cert, paths.key, password="")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there)
    theirs = server.wrap_bio(there, back, server_side=True)
    try:
        for _ in range(2):
            for side in (ours, theirs):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as exc:
        return exc.verify_code
    except ssl.SSLError:
        return 0
    return 0
