"""Any number of gRPC streams read with as little work as Python allows: HTTP/2 frames on plain sockets.

A client of ``grpc.aio`` needs about as much CPU for a message as the server does; on a machine with few cores, a
thousand of them would be what is measured. This one takes some microseconds a message: it sends requests, answers what
HTTP/2 demands (RFC 9113: SETTINGS, PING), and cuts DATA into gRPC messages, which it does not decode. Response headers
are not decoded either: a stream that ends is told as ended, not why. Unix sockets only.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = END_STREAM = 0x1
_END_HEADERS = 0x4
_INITIAL_WINDOW_SIZE = 4
# The largest windows there are: 2 GB may come before the server would wait for more room.
_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_RECEIVED_AT_ONCE = 262_144
_FRAME_HEAD = 9
_MESSAGE_HEAD = 5


class StreamsEndedError(Exception):
    """The server has ended a stream, or there was no more to come in time."""


class _Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Streams:
    """Server streams of one method. ``on_message(stream, message)`` is told each message while :meth:`read` runs."""

    def __init__(self, path: Path, on_message: Callable[[tuple[int, int], bytes], None]) -> None:
        """``stream`` is a connection's number and the stream's in it."""
        self._path = str(path)
        self._on_message = on_message
        self._connections: list[_Connection] = []
        self._selector = selectors.DefaultSelector()
        self.ended: set[tuple[int, int]] = set()

    def open(self, method: str, request: bytes, *, connections: int, each: int, window: int = _WINDOW) -> None:
        """Open so many connections with so many streams ``each``; the server may send ``window`` bytes unasked."""
        for _ in range(connections):
            connection = _Connection(self._path, window)
            number = len(self._connections)
            self._connections.append(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, number)
            for stream in range(each):
                connection.request(1 + 2 * stream, method, request)

    def read(self, done: Callable[[], bool], seconds: float) -> None:
        """Read until ``done()``. Raises :class:`StreamsEndedError` after so many seconds."""
        ends = time.monotonic() + seconds
        while not done():
            if time.monotonic() > ends:
                raise StreamsEndedError(f"not within {seconds:.0f} s; {len(self.ended)} streams have ended")
            for key, _ in self._selector.select(0.1):
                self._read_one(key.data)

    def close(self) -> None:
        """Close all connections."""
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def _read_one(self, number: int) -> None:
        connection = self._connections[number]
        for frame in connection.frames():
            if frame.kind == _DATA:
                for message in connection.messages(frame):
                    self._on_message((number, frame.stream), message)
            if frame.kind == _RST_STREAM or (frame.kind in (_DATA, _HEADERS) and frame.flags & END_STREAM):
                self.ended.add((number, frame.stream))
            elif frame.kind == _SETTINGS and not frame.flags & _ACK:
                connection.send(_SETTINGS, _ACK, 0, b"")
            elif frame.kind == _PING and not frame.flags & _ACK:
                connection.send(_PING, _ACK, 0, frame.payload)
            elif frame.kind == _GOAWAY:
                raise StreamsEndedError(f"the server ended a connection: {frame.payload[8:].decode(errors='replace')}")


class _Connection:
    def __init__(self, path: str, window: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self._received = bytearray()
        self._unfinished: dict[int, bytes] = {}
        self.socket.sendall(_PREFACE)
        self.send(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, window))
        if window > _DEFAULT_WINDOW:
            self.send(_WINDOW_UPDATE, 0, 0, struct.pack(">I", window - _DEFAULT_WINDOW))

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        self.socket.sendall(head + payload)

    def request(self, stream: int, method: str, message: bytes) -> None:
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
        self.send(_HEADERS, _END_HEADERS, stream, _literals(headers))
        self.send(_DATA, END_STREAM, stream, b"\0" + struct.pack(">I", len(message)) + message)

    def frames(self) -> list[_Frame]:
        """Those that have come."""
        data = self.socket.recv(_RECEIVED_AT_ONCE)
        if not data:
            raise StreamsEndedError("the server closed a connection")
        received = self._received
        received += data
        found = []
        begin, size = 0, len(received)
        while size - begin >= _FRAME_HEAD:
            length = int.from_bytes(received[begin : begin + 3], "big")
            end = begin + _FRAME_HEAD + length
            if end > size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", received, begin + 3)
            found.append(_Frame(kind, flags, stream, bytes(received[begin + _FRAME_HEAD : end])))
            begin = end
        del received[:begin]
        return found

    def messages(self, frame: _Frame) -> list[bytes]:
        """The gRPC messages that this DATA completes; gRPC does not pad frames."""
        data = self._unfinished.pop(frame.stream, b"") + frame.payload
        found = []
        begin, size = 0, len(data)
        while size - begin >= _MESSAGE_HEAD:
            end = begin + _MESSAGE_HEAD + int.from_bytes(data[begin + 1 : begin + _MESSAGE_HEAD], "big")
            if end > size:
                break
            found.append(data[begin + _MESSAGE_HEAD : end])
            begin = end
        if begin < size:
            self._unfinished[frame.stream] = data[begin:]
        return found


def _literals(headers: Sequence[tuple[str, str]]) -> bytes:
    """Headers in HPACK's plainest form: literals with new names, not indexed, no Huffman code (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    encoded = text.encode()
    # A length below 127 is one byte; all of ours are.
    return bytes((len(encoded),)) + encoded
