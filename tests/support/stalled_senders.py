"""Callers that send most of a request and then nothing, on a connection of their own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence
from itertools import cycle
from typing import Self

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from container_manager.rpc.services import SERVICES
from tests.fuzz.conversations import (
    ACK,
    DATA,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Frame,
    prefixed,
)
from tests.support.raw_calls import FIRST_WINDOW, INITIAL_WINDOW, headers_frame, raw_connection

SENDERS = 100
MOST_GROWTH_BYTES = 160 * 2**20
"""Sixteen requests of 4 MiB, as received and as joined by gRPC, and the memory that allocators keep."""
WAITING_BYTES = 64 * 2**10
"""What a call that waits to be received holds: its HTTP/2 window."""
MOST_OF_CONNECTION_BYTES = 3 * 2**19
"""What gRPC keeps to read into for a connection that has sent much (grpc/grpc#42194); about 1 MiB as measured."""
HEALTH_CHECK = b"/grpc.health.v1.Health/Check"
HEALTH_WATCH = b"/grpc.health.v1.Health/Watch"
REFLECTION = b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
STREAM_LOGS = b"/botmaker.container.v1.ContainerObserver/StreamLogs"
CREATE = b"/botmaker.container.v1.ContainerManager/CreateContainer"
_DESCRIBED = (*SERVICES.values(), health_pb2.DESCRIPTOR.services_by_name["Health"])
_DESCRIBED += (reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],)
EVERY_METHOD = (
    *(f"/{service.full_name}/{method.name}".encode() for service in _DESCRIBED for method in service.methods),
    REFLECTION.replace(b"v1alpha", b"v1"),
)
_ANNOUNCED_BYTES = 4_000_000
_SENT_BYTES = 3_700_000
_BODY = prefixed(b"\0" * _SENT_BYTES, length=_ANNOUNCED_BYTES)
_TRAILERS = 0x1


class StalledSenders:
    """One connection with many calls; each sends most of its request as fast as it may, then stops."""

    def __init__(
        self, address: str, path: bytes | Sequence[bytes], *metadata: tuple[bytes, bytes], calls: int = SENDERS
    ) -> None:
        """``address`` is one of a server's: ``unix:///path`` or ``tcp://host:port``.

        ``path`` names the method; of several, each call takes the next one.
        """
        self._socket = raw_connection(address)
        self._lock = threading.Condition()
        self._sending = threading.Lock()
        self._window = FIRST_WINDOW
        self._windows = dict.fromkeys(range(1, 2 * calls, 2), FIRST_WINDOW)
        self._initial = FIRST_WINDOW
        self.ended: set[int] = set()
        """The calls that the service has ended."""
        paths = cycle([path] if isinstance(path, bytes) else path)
        self.calls = {stream: Call(path, b"", metadata) for stream, path in zip(self._windows, paths, strict=False)}
        """By their stream."""
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

    def all_ended(self) -> bool:
        """Whether the service has ended every call."""
        return len(self.ended) == len(self.calls)

    def _write(self) -> None:
        sent = dict.fromkeys(self._windows, 0)
        with contextlib.suppress(OSError):
            for stream, call in self.calls.items():
                self._send(headers_frame(stream, call))
            while not self._closed:
                with self._lock:
                    open_streams = [each for each in sent if each not in self.ended and sent[each] < len(_BODY)]
                    ready = [each for each in open_streams if self._windows[each] > 0]
                    if not ready or self._window <= 0:
                        self._lock.wait(1)
                        continue
                    stream = min(ready, key=lambda each: sent[each])
                    size = min(16_384, self._window, self._windows[stream], len(_BODY) - sent[stream])
                    self._window -= size
                    self._windows[stream] -= size
                self._send(Frame(DATA, 0, stream, _BODY[sent[stream] : sent[stream] + size]).encoded())
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
                if name == INITIAL_WINDOW:
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
