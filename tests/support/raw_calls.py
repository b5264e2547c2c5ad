"""Calls that a test writes into a connection itself, frame by frame."""

from __future__ import annotations

import socket

from tests.fuzz.conversations import DATA, END_HEADERS, END_STREAM, HEADERS, Call, Frame, literals, prefixed

INITIAL_WINDOW = 4
"""The setting of this name (RFC 9113, 6.5.2)."""
FIRST_WINDOW = 65_535
"""The size of a window for which nothing was set."""


def raw_connection(address: str) -> socket.socket:
    """A connection to a server's address, ``unix:///path`` or ``tcp://host:port``. It has no time-out."""
    kind, _, where = address.partition("://")
    host, _, port = where.rpartition(":")
    connection = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    try:
        connection.connect(where if kind == "unix" else (host, int(port)))
    except BaseException:
        connection.close()
        raise
    return connection


def headers_frame(stream: int, call: Call) -> bytes:
    """The headers of a call without a deadline."""
    headers = [header for header in call.headers() if header[0] != b"grpc-timeout"]
    return Frame(HEADERS, END_HEADERS, stream, literals(headers)).encoded()


def whole_call(stream: int, call: Call) -> bytes:
    """A call without a deadline, with its message."""
    return headers_frame(stream, call) + Frame(DATA, END_STREAM, stream, prefixed(call.message)).encoded()
