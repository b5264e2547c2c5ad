"""A caller that makes calls and never reads from its connection: the answers stay in the socket's buffers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


@contextmanager
def unread_connection(address: str, calls: Sequence[Call]) -> Iterator[None]:
    """Makes the calls on a connection of its own, which it leaves open. Its HTTP/2 windows hold up no answer.

    ``address``: one of a server's, ``unix:///path`` or ``tcp://host:port``.
    """
    kind, _, where = address.partition("://")
    host, _, port = where.rpartition(":")
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as connection:
        connection.settimeout(60)
        connection.connect(where if kind == "unix" else (host, int(port)))
        connection.sendall(PREFACE + b"".join(frame.encoded() for frame in _WINDOWS))
        for number, call in enumerate(calls):
            headers = [header for header in call.headers() if header[0] != b"grpc-timeout"]
            stream = 1 + 2 * number
            connection.sendall(
                Frame(HEADERS, END_HEADERS, stream, literals(headers)).encoded()
                + Frame(DATA, END_STREAM, stream, prefixed(call.message)).encoded()
            )
        yield
