"""A listener that passes connections on to a server, and that can be away, with the same address afterwards."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self


class Relay:
    """Away at first: connections to its address are refused."""

    def __init__(self, address: str) -> None:
        """``address`` is ``unix:///path`` or ``tcp://127.0.0.1:0``."""
        kind, _, self._where = address.partition("://")
        self._is_unix = kind == "unix"
        self._port = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = self._bound()
        self.address = address if self._is_unix else f"tcp://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._listener.close()

    def listen(self, target: str) -> None:
        """Pass connections on to this address of a server."""
        if self._is_unix:
            self._listener.bind(self._where)
        self._listener.listen()
        self._start(self._accept, self._listener, target)

    def leave(self) -> None:
        """Cut every connection, and refuse further ones."""
        self._sockets.append(self._listener)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()
        self._sockets, self._threads = [], []
        self._listener = self._bound()

    def _bound(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX if self._is_unix else socket.AF_INET)
        if self._is_unix:
            Path(self._where).unlink(missing_ok=True)
        else:
            # Bound and not listening: no other program takes the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
        return listener

    def _accept(self, listener: socket.socket, target: str) -> None:
        kind, _, where = target.partition("://")
        host, _, port = where.rpartition(":")
        with contextlib.suppress(OSError):
            while True:
                ends = [listener.accept()[0], socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)]
                self._sockets += ends
                ends[1].connect(where if kind == "unix" else (host, int(port)))
                for source, sink in (ends, reversed(ends)):
                    self._start(self._pass_on, source, sink)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
