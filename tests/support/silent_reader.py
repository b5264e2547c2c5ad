"""A caller that makes calls and takes no answer: its HTTP/2 windows are closed."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread

from tests.fuzz.conversations import ACK, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, Call, Frame
from tests.support.raw_calls import INITIAL_WINDOW, raw_connection, whole_call

_ARRIVED = b"arrived?"


@contextmanager
def silent_reader(address: str, calls: Sequence[Call]) -> Iterator[set[int]]:
    """Makes the calls on a connection of its own, which it leaves open; it answers pings.

    Yields the streams that the service has ended, refused ones included; it grows in a thread.

    ``address``: one of a server's, ``unix:///path`` or ``tcp://host:port``.
    """
    with raw_connection(address) as connection:
        connection.sendall(PREFACE + Frame(SETTINGS, payload=struct.pack(">HI", INITIAL_WINDOW, 0)).encoded())
        arrived = Event()
        ended: set[int] = set()
        answering = Thread(target=_answer, args=(connection, arrived, ended))
        answering.start()
        try:
            for number, call in enumerate(calls):
                connection.sendall(whole_call(1 + 2 * number, call))
            connection.sendall(Frame(PING, payload=_ARRIVED).encoded())
            assert arrived.wait(60)
            yield ended
        finally:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            answering.join()


def _answer(connection: socket.socket, arrived: Event, ended: set[int]) -> None:
    with suppress(OSError), connection.makefile("rb") as stream:
        while len(head := stream.read(9)) == 9:
            payload = stream.read(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4] & ACK:
                connection.sendall(Frame(SETTINGS, ACK).encoded())
            elif head[3] == PING and payload == _ARRIVED:
                arrived.set()
            elif head[3] == PING and not head[4] & ACK:
                connection.sendall(Frame(PING, ACK, 0, payload).encoded())
            elif head[3] == RST_STREAM or (head[3] == HEADERS and head[4] & END_STREAM):
                ended.add(int.from_bytes(head[5:], "big"))
