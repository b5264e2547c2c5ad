"""A caller that makes calls and never reads from its connection: the answers stay in the socket's buffers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from tests.fuzz.conversations import PREFACE, SETTINGS, WINDOW_UPDATE, Call, Frame
from tests.support.raw_calls import FIRST_WINDOW, INITIAL_WINDOW, raw_connection, whole_call

_WIDEST = 2**31 - 1
_WINDOWS = (
    Frame(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW, _WIDEST)),
    Frame(WINDOW_UPDATE, payload=struct.pack(">I", _WIDEST - FIRST_WINDOW)),
)


class UnreadConnection:
    """One that is open. Its HTTP/2 windows hold up no answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._streams = count(1, 2)
        connection.sendall(PREFACE + b"".join(frame.encoded() for frame in _WINDOWS))

    def call(self, calls: Sequence[Call]) -> bool:
        """Make calls. Returns whether the service has the connection still open."""
        sent = [whole_call(stream, call) for call, stream in zip(calls, self._streams, strict=False)]
        try:
            self._connection.sendall(b"".join(sent))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


@contextmanager
def unread_connection(address: str) -> Iterator[UnreadConnection]:
    """Opens one to a server's address, ``unix:///path`` or ``tcp://host:port``."""
    with raw_connection(address) as connection:
        connection.settimeout(60)
        yield UnreadConnection(connection)
