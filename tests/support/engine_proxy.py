"""A proxy in front of a real engine that notes every request and injects faults."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_REQUEST_LINE = re.compile(rb"(?:GET|HEAD|POST|DELETE|PUT) /\S* HTTP/1\.1")


class EngineProxy:
    """Forwards a unix socket to the engine's; ``requests`` holds what passed, as ``"POST /v1.41/…"``.

    ``refuse``, ``hang`` and ``mute`` take a part of a request line and last until ``mend``: ``refuse`` closes the
    connections of such requests, also of those in flight; ``hang`` holds new ones back without an answer; ``mute``
    forwards them and keeps their answers back.
    """

    def __init__(self, engine_url: str, path: Path) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self._engine_path = engine_url.removeprefix("unix://")
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._refused: set[str] = set()
        self._hung: set[str] = set()
        self._muted: set[str] = set()
        self._acceptor = threading.Thread(target=self._accept, name="engine proxy")

    def seen(self, part: str) -> list[str]:
        """The requests so far whose line contains ``part``."""
        return [request for request in list(self.requests) if part in request]

    @property
    def open(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._connections)

    def refuse(self, part: str) -> None:
        """Close the connections of such requests, now and in future."""
        self._refused.add(part)
        self.cut(part)

    def hang(self, part: str) -> None:
        """Never answer such requests."""
        self._hung.add(part)

    def mute(self, part: str) -> None:
        """Have the engine carry out such requests, and keep its answers back."""
        self._muted.add(part)

    def mend(self) -> None:
        """Forward new requests and answers again; those that hang stay so."""
        self._refused.clear()
        self._hung.clear()
        self._muted.clear()

    def cut(self, part: str) -> None:
        """Close the connections that are busy with such a request."""
        with self._lock:
            found = [each for each in self._connections if part in each.latest]
        for each in found:
            each.shut()

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            left = list(self._connections)
        for each in left:
            each.shut()
        for each in left:
            each.join()
        self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(_Connection(self, client, self._engine_path))

    def _passes(self, line: str) -> bool | None:
        """Whether to forward a request; ``None``: keep it back."""
        self.requests.append(line)
        if any(part in line for part in self._refused):
            return False
        return None if any(part in line for part in self._hung) else True

    def _ended(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """One client's connection and the engine's side of it."""

    def __init__(self, proxy: EngineProxy, client: socket.socket, engine_path: str) -> None:
        self.latest = ""
        self._proxy = proxy
        self._client = client
        self._engine = socket.socket(socket.AF_UNIX)
        self._engine.connect(engine_path)
        self._there = threading.Thread(target=self._run, name="engine proxy, connection")
        self._there.start()

    def shut(self) -> None:
        """Shut down both sides."""
        for each in (self._client, self._engine):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait until it has ended."""
        self._there.join()

    def _run(self) -> None:
        back = threading.Thread(target=self._back, name="engine proxy, answers")
        back.start()
        passed = False
        with suppress(OSError):
            passed = self._forward()
            if passed:
                # The client sends no more, and may still read: as with the input of a program.
                self._engine.shutdown(socket.SHUT_WR)
        if not passed:
            self.shut()
        back.join()
        self._client.close()
        self._engine.close()
        self._proxy._ended(self)

    def _forward(self) -> bool:
        """Whether all was forwarded until the client ended it."""
        while data := self._client.recv(65_536):
            verdicts = []
            for line in _REQUEST_LINE.findall(data):
                self.latest = line.decode().rsplit(" ", 1)[0]
                verdicts.append(self._proxy._passes(self.latest))
            if False in verdicts:
                return False
            if None not in verdicts:
                self._engine.sendall(data)
        return True

    def _back(self) -> None:
        with suppress(OSError):
            while data := self._engine.recv(65_536):
                if not any(part in self.latest for part in self._proxy._muted):
                    self._client.sendall(data)
        self.shut()
