"""A proxy in front of a real engine that notes the first line of every request."""

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
    """Forwards a unix socket to the engine's; ``requests`` holds what passed, as ``"POST /v1.41/…"``."""

    def __init__(self, engine_url: str, path: Path) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self._engine_path = engine_url.removeprefix("unix://")
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._open):
            each.close()
        self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine_path)
            self._open += [client, engine]
            self._run(self._forward, client, engine, self.requests)
            self._run(self._forward, engine, client, [])

    def _forward(self, source: socket.socket, sink: socket.socket, noted: list[str]) -> None:
        try:
            while data := source.recv(65_536):
                noted += [line.decode().rsplit(" ", 1)[0] for line in _REQUEST_LINE.findall(data)]
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
