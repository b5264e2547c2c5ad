"""A registry over plain HTTP on a loopback port that serves one small image and can be made to fail in any step.

    with FaultyRegistry() as registry:
        registry.fail("blob", Cut())
        pull(f"{registry.address}/bots/any:1")

Engines accept a registry on 127.0.0.0/8 without TLS. The steps are ``ping`` (``/v2/``), ``token``, ``manifest``,
``config`` and ``blob``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import struct
import tarfile
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from types import TracebackType
from typing import Self

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Status:
    """An error response, with this reason phrase and body."""

    status: int
    phrase: str = ""
    body: bytes = b""
    content_type: str = "text/plain"


@dataclass(frozen=True)
class Reset:
    """The connection is reset instead of a response."""


@dataclass(frozen=True)
class Cut:
    """The connection ends in the middle of the response's body."""


@dataclass(frozen=True)
class End:
    """The connection ends without a response."""


@dataclass(frozen=True)
class Stall:
    """No response, until the client or the registry ends the connection."""


Fault = Status | Reset | Cut | End | Stall


class FaultyRegistry:
    """A context manager; no thread and no socket is left after its exit."""

    def __init__(self, host: str = "127.0.0.1", *, tls: SSLContext | None = None) -> None:
        self._faults: dict[str, Fault] = {}
        self._realm: str | None = None
        self._stalled: set[socket.socket] = set()
        self.stalled_paths: list[str] = []
        """The path of every request so far that was stalled."""
        self._content = _image()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="faulty registry")
        self.address = f"{host}:{self._server.server_address[1]}"
        """HOST:PORT, to put before an image's name."""

    def fail(self, step: str, fault: Fault) -> None:
        """Answer every request of ``step`` with ``fault``."""
        self._faults[step] = fault

    def require_token(self, realm: str | None = None) -> None:
        """Require a token from ``realm``, by default from this registry, which gives one to anybody."""
        self._realm = realm or f"http://{self.address}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def stalled(self) -> int:
        """How many requests are stalled at present."""
        return len(self._stalled)

    def release(self) -> None:
        """Stall nothing any more, and end the connections that are stalled."""
        self._faults = {step: fault for step, fault in self._faults.items() if not isinstance(fault, Stall)}
        for connection in list(self._stalled):
            with suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer to TLS that engines with the containerd image store recognise as that of a server without TLS.
            default_request_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self) -> None:
                registry.answer(self)

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self.do_GET
                raise AttributeError(name)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request; called on its own thread."""
        step = self._step(request)
        fault = self._faults.get(step)
        if isinstance(fault, Stall):
            self._stall(request)
        elif isinstance(fault, Status):
            request.send_response(fault.status, fault.phrase)
            request.send_header("Content-Type", fault.content_type)
            self._send(request, fault.body)
        elif fault is not None and not isinstance(fault, Cut):
            if isinstance(fault, Reset):
                request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            request.close_connection = True
        elif self._realm and step != "token" and request.headers.get("Authorization") != "Bearer anybody":
            request.send_response(401)
            challenge = f'Bearer realm="{self._realm}",service="tests",scope="repository:bots/any:pull"'
            request.send_header("WWW-Authenticate", challenge)
            self._send(request, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
        else:
            self._serve(request, step, cut=isinstance(fault, Cut))

    def _stall(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.connection.settimeout(None)
        self.stalled_paths.append(request.path)
        self._stalled.add(request.connection)
        with suppress(OSError):
            request.connection.recv(1)
        self._stalled.discard(request.connection)

    def _step(self, request: BaseHTTPRequestHandler) -> str:
        path = request.path.partition("?")[0]
        if request.command == "CONNECT":
            return "connect"
        if path in {"/token", "/v2/"}:
            return "token" if path == "/token" else "ping"
        if "/manifests/" in path:
            return "manifest"
        return "config" if path.endswith(self._content.config_digest) else "blob"

    def _serve(self, request: BaseHTTPRequestHandler, step: str, *, cut: bool) -> None:
        body = {
            "ping": b"{}",
            "token": b'{"token": "anybody", "access_token": "anybody"}',
            "manifest": self._content.manifest,
            "config": self._content.config,
            "blob": self._content.layer,
        }[step]
        request.send_response(200)
        request.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        request.send_header("Content-Type", _MANIFEST_TYPE if step == "manifest" else "application/octet-stream")
        if step == "manifest":
            request.send_header("Docker-Content-Digest", _digest(body))
        self._send(request, body, cut=cut)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, *, cut: bool = False) -> None:
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            request.close_connection = True


@dataclass(frozen=True)
class _Image:
    manifest: bytes
    config: bytes
    config_digest: str
    layer: bytes


def _image() -> _Image:
    """An image of one layer with one file, which cannot run; no engine has any part of it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(uuid.uuid4().hex), io.BytesIO())
    layer = gzip.compress(archive.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(archive.getvalue())]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": _digest(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": _digest(layer),
            }
        ],
    }
    return _Image(json.dumps(manifest).encode(), config, _digest(config), layer)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
