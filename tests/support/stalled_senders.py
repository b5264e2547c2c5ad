"""Callers that send most of a request and then nothing, on a connection of their own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

from tests.fuzz.conversations import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Frame,
    literals,
    prefixed,
)

SENDERS = 100
MOST_GROWTH_BYTES = 160 * 2**20
"""Sixteen requests of 4 MiB, as received and as joined by gRPC, and the memory that allocators keep."""
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH = b"/grpc.health.v1.Health/Watch"
REFLECTION = b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
STREAM_LOGS = b"/botmaker.container.v1.ContainerObserver/StreamLogs"
CREATE = b"/botmaker.container.v1.ContainerManager/CreateContainer"
_ANNOUNCED_BYTES = 4_000_000
_SENT_BYTES = 3_700_000
_TRAILERS, _CONTINUED_WINDOW = 0x1, 65_535


class StalledSenders:
    """One connection with a hundred calls; each sends most of its request as fast as it may, then stops."""

    def __init__(self, address: str, path: bytes, *metadata: tuple[bytes, bytes]) -> None:
        """``address`` is one of a server's: ``unix:///path`` or ``tcp://host:port``; ``path`` names the method."""
        kind, _, where = address.partition("://")
        host, _, port = where.rpartition(":")
        self._socket = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        self._socket.connect(where if kind == "unix" else (host, int(port)))
        self._lock = threading.Condition()
        self._sending = threading.Lock()
        self._window = _CONTINUED_WINDOW
        self._windows = dict.fromkeys(range(1, 2 * SENDERS, 2), _CONTINUED_WINDOW)
        self._initial = _CONTINUED_WINDOW
        self.ended: set[int] = set()
        """The calls that the service has ended."""
        self._call = Call(path, b"", metadata)
        self._closed = False
        self._threads = [threading.Thread(target=target) for target in (self._read, self._write)]

    def __enter__(self) -> Self:
        self._send(PREFACE + Frame(SETTINGS).encoded())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _write(self) -> None:
        headers = literals([header for header in self._call.headers() if header[0] != b"grpc-timeout"])
        body = prefixed(b"\0" * _SENT_BYTES, length=_ANNOUNCED_BYTES)
        sent = dict.fromkeys(self._windows, 0)
        with contextlib.suppress(OSError):
            for stream in sent:
                self._send(Frame(HEADERS, END_HEADERS, stream, headers).encoded())
            while not self._closed:
                with self._lock:
                    open_streams = [each for each in sent if each not in self.ended and sent[each] < len(body)]
                    ready = [each for each in open_streams if self._windows[each] > 0]
                    if not ready or self._window <= 0:
                        self._lock.wait(1)
                        continue
                    stream = min(ready, key=lambda each: sent[each])
                    size = min(16_384, self._window, self._windows[stream], len(body) - sent[stream])
                    self._window -= size
                    self._windows[stream] -= size
                self._send(Frame(DATA, 0, stream, body[sent[stream] : sent[stream] + size]).encoded())
                sent[stream] += size

    def _read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = self._exactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream = int.from_bytes(head[5:], "big")
                payload = self._exactly(length)
                with self._lock:
                    self._take(kind, flags, stream, payload)
                    self._lock.notify_all()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream:
                self._windows[stream] += more
            else:
                self._window += more
        elif kind == SETTINGS and not flags & ACK:
            for offset in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[offset : offset + 6])
                if name == 4:
                    self._windows = {each: window + value - self._initial for each, window in self._windows.items()}
                    self._initial = value
            self._send(Frame(SETTINGS, ACK).encoded())
        elif kind == PING and not flags & ACK:
            self._send(Frame(PING, ACK, 0, payload).encoded())
        elif (kind == HEADERS and flags & _TRAILERS) or kind == RST_STREAM:
            self.ended.add(stream)

    def _send(self, data: bytes) -> None:
        # Whole frames, from either thread.
        with self._sending:
            self._socket.sendall(data)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
