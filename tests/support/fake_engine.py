"""A scripted stand-in for a Docker Engine, for faults that a real engine does not show on demand.

    with FakeEngine() as engine:
        engine.on("GET", "/containers/*/json", Json({"Id": "c1"}))
        engine.on("POST", "/containers/c1/start", Hang())
        client = EngineClient(engine.url, timeout_seconds=1)
        ...
        assert 1 == len(engine.seen("POST", "/containers/*/start"))

Paths are globs, without the API version and the query (``*`` matches ``/`` too); the rule added last wins. A rule gives
its answers in order and repeats the last one; an answer may be a function of the :class:`Request`. Without a matching
rule, ``/_ping`` and ``/version`` answer as an engine does, the list of containers is empty, and anything else is 404.
"""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """A request as the engine saw it."""

    method: str
    path: str
    """Without the prefix ``/v1.41`` and the query."""
    query: Mapping[str, str]
    body: Any
    """Decoded JSON; ``None`` without a body."""
    version: str
    """``1.41``; empty for a path without a version."""
    headers: Mapping[str, str]
    connection: int
    """The same number for requests on one kept connection."""


@dataclass(frozen=True)
class Json:
    """An answer with a JSON body."""

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """An answer with any body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, message: str) -> Json:
    """An error answer in the engine's format."""
    return Json({"message": message}, status)


NO_CONTENT = Raw(status=204)
"""The engine's answer to start, stop, restart and remove."""


@dataclass(frozen=True)
class Hang:
    """No answer until :meth:`FakeEngine.release`, and ``then`` after it."""

    then: Json | Raw | Cut | Stream | None = None


@dataclass(frozen=True)
class Cut:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Stream:
    """A chunked 200 answer of JSON messages, as for a pull; ``cut``: the connection closes before its end."""

    messages: Iterable[Any]
    cut: bool = False


@dataclass(frozen=True)
class Bytes:
    """The exact bytes of an answer, head included. Then the connection ends; ``stall``: the client has to end it."""

    pieces: Iterable[bytes]
    stall: bool = False


Answer = Json | Raw | Hang | Cut | Stream | Bytes
Script = Answer | Callable[[Request], Answer]


class FakeEngine:
    """A context manager; no thread and no socket is left after its exit."""

    def __init__(self, *, tcp: bool = False, api_version: str = "1.41", directory: Path | None = None) -> None:
        """``tcp``: listen on 127.0.0.1 instead of a unix socket. ``directory``: of the socket."""
        self.api_version = api_version
        self.requests: list[Request] = []
        self._rules: list[tuple[str, str, list[Script]]] = []
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._connections: dict[int, socket.socket] = {}
        self._temporary = directory is None and not tcp
        self._directory = Path(tempfile.mkdtemp(prefix="engine-")) if self._temporary else directory
        self._server = self._bind(tcp)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), name="fake engine")

    @property
    def url(self) -> str:
        """The endpoint, in the Docker SDK's format."""
        address = self._server.server_address
        return f"tcp://127.0.0.1:{address[1]}" if isinstance(address, tuple) else f"unix://{address!s}"

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return Path(self.url.removeprefix("unix://"))

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def on(self, method: str, path: str, *answers: Script) -> None:
        """Answer requests of ``method`` whose path matches the glob ``path``."""
        with self._changed:
            self._rules.insert(0, (method, path, list(answers)))

    def seen(self, method: str, path: str) -> list[Request]:
        """The requests so far of ``method`` whose path matches the glob."""
        with self._changed:
            return [request for request in self.requests if _matches(request, method, path)]

    def await_request(self, method: str, path: str, count: int = 1, timeout: float = 60) -> list[Request]:
        """Wait for ``count`` such requests, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.seen(method, path)) >= count, timeout):
                came = len(self.seen(method, path))
                raise TimeoutError(f"{came} of {count} {method} {path} came; all: {self.requests}")
            return self.seen(method, path)

    def release(self) -> None:
        """End every hang, now and in future."""
        self._released.set()

    def drop_connections(self) -> None:
        """Close every connection, like an engine that restarts."""
        with self._changed:
            connections = list(self._connections.values())
        for connection in connections:
            _shut(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self.drop_connections()
        self._server.server_close()
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _bind(self, tcp: bool) -> socketserver.BaseServer:
        engine = self

        class Handler(_Handler):
            def setup(self) -> None:
                super().setup()
                self.engine = engine

        if tcp:
            return _TcpServer(("127.0.0.1", 0), Handler)
        return _UnixServer(str(self._directory / "engine.sock"), Handler)

    def _answer(self, request: Request) -> Answer:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            script = self._script(request)
        return script(request) if callable(script) else script

    def _script(self, request: Request) -> Script:
        for method, path, answers in self._rules:
            if _matches(request, method, path):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        if request.path == "/_ping":
            return Raw(b"OK", headers={"Content-Type": "text/plain"})
        if request.path == "/version":
            return Json({"ApiVersion": self.api_version, "MinAPIVersion": "1.24", "Version": "fake"})
        if request.path == "/containers/json":
            return Json([])
        name = request.path.split("/")[2:3]
        return error(404, f"No such container: {name[0]}" if name else "page not found")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: FakeEngine

    def handle(self) -> None:
        with self.engine._changed:
            self.engine._connections[id(self)] = self.connection
        try:
            super().handle()
        except (ConnectionError, ValueError):
            pass  # the client has closed the connection
        finally:
            with self.engine._changed:
                del self.engine._connections[id(self)]

    def _serve(self) -> None:
        self._give(self.engine._answer(self._request()))

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = _serve  # noqa: N815 - the base class names them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log nothing; the base class writes to standard error."""

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        version, path = "", parts.path
        if path.startswith("/v") and path[2:3].isdigit():
            version, _, path = path[2:].partition("/")
            path = f"/{path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(parts.query))
        return Request(self.command, path, query, json.loads(body) if body else None, version, self.headers, id(self))

    def _give(self, answer: Answer) -> None:
        match answer:
            case Json():
                headers = {"Content-Type": "application/json", **answer.headers}
                self._send(answer.status, json.dumps(answer.document).encode(), headers)
            case Raw():
                self._send(answer.status, answer.body, answer.headers)
            case Hang():
                self.engine._released.wait()
                self._give(answer.then or Cut())
            case Cut():
                self._close()
            case Stream():
                self._stream(answer)
            case Bytes():
                for piece in answer.pieces:
                    self.wfile.write(piece)
                if answer.stall:
                    self.connection.recv(1)
                self._close()

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for message in stream.messages:
            chunk = json.dumps(message).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if stream.cut:
            self._close()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _close(self) -> None:
        self.close_connection = True
        _shut(self.connection)


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = False
    request_queue_size = 1024


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = False
    request_queue_size = 1024
    allow_reuse_address = True


def _matches(request: Request, method: str, path: str) -> bool:
    return fnmatchcase(request.method, method) and fnmatchcase(request.path, path)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)
