"""Detects servers that do not speak HTTP/2, and so cannot be gRPC servers."""

from __future__ import annotations

import socket

# RFC 9113, sections 3.4 and 4.1: the client's preface, an empty SETTINGS frame, and the type in a frame's header.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HEAD_BYTES, _TYPE_AT, _SETTINGS = 9, 3, 4


def speaks_something_else(connected: socket.socket) -> bool:
    """Whether the server answers with something other than HTTP/2. False for a server that does not answer."""
    heard = b""
    try:
        connected.sendall(_PREFACE)
        while len(heard) < _HEAD_BYTES and (more := connected.recv(_HEAD_BYTES - len(heard))):
            heard += more
    except OSError:
        pass
    return bool(heard) and heard[_TYPE_AT : _TYPE_AT + 1] != bytes([_SETTINGS])
