"""A caller that makes calls and never reads from its connection: the answers stay in the socket's buffers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from tests.fuzz.conversations import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Frame,
    literals,
    prefixed,
)

_INITIAL_WINDOW = 4  # RFC 9113, 6.5.2
_FIRST_WINDOW = 65_535
_WIDEST = 2**31 - 1
_WINDOWS = (
    Frame(SETTINGS, payload=struct.pack(">HI", _INITIAL_WINDOW, _WIDEST)),
    Frame(WINDOW_UPDATE, payload=struct.pack(">I", _WIDEST - _FIRST_WINDOW)),
)


class UnreadConnection:
    """One that is open. Its HTTP/2 windows hold up no answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._streams = count(1, 2)
        connection.sendall(PREFACE + b"".join(frame.encoded() for frame in _WINDOWS))

    def call(self, calls: Sequence[Call]) -> bool:
        """Make calls. Returns whether the service has the connection still open."""
        sent = bytearray()
        for call, stream in zip(calls, self._streams, strict=False):
            headers = [header for header in call.headers() if header[0] != b"grpc-timeout"]
            sent += Frame(HEADERS, END_HEADERS, stream, literals(headers)).encoded()
            sent += Frame(DATA, END_STREAM, stream, prefixed(call.message)).encoded()
        try:
            self._connection.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


@contextmanager
def unread_connection(address: str) -> Iterator[UnreadConnection]:
    """Opens one to a server's address, ``unix:///path`` or ``tcp://host:port``."""
    kind, _, where = address.partition("://")
    host, _, port = where.rpartition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as connection:
        connection.settimeout(60)
        connection.connect(where if kind == "unix" else (host, int(port)))
        yield UnreadConnection(connection)
