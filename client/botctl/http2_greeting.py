"""Whether a server speaks HTTP/2, as every gRPC server does."""

from __future__ import annotations

import socket

# RFC 9113, sections 3.4 and 4.1: a client's preface, an empty SETTINGS frame, and a frame's head with its type.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HEAD_BYTES, _TYPE_AT, _SETTINGS = 9, 3, 4


def speaks_something_else(connected: socket.socket) -> bool:
    """Whether it answers a greeting with other words than HTTP/2's; one that says nothing is not told from ours."""
    heard = b""
    try:
        connected.sendall(_PREFACE)
        while len(heard) < _HEAD_BYTES and (more := connected.recv(_HEAD_BYTES - len(heard))):
            heard += more
    except OSError:
        pass
    return bool(heard) and heard[_TYPE_AT : _TYPE_AT + 1] != bytes([_SETTINGS])
