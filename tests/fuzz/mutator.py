"""Spoils valid conversations, reproducibly: the same random source gives the same bytes.

Some mutations know the protocol: they spoil one thing and keep the rest valid, so that the request gets far. Others
spoil any bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.fuzz.conversations import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    Conversation,
    Frame,
    conversation,
    encoded,
    literals,
    prefixed,
)

_MOST_BYTES = 300_000
_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class Mutator:
    """Creates hostile connections from a seed, one after another."""

    def __init__(self, seed: int | str, calls: Sequence[Call]) -> None:
        self._draw = random.Random(seed)
        self._calls = calls

    def connection(self) -> bytes:
        """The bytes that a hostile client sends."""
        draw = self._draw
        asked = [self._spoiled(draw.choice(self._calls), draw.random() < 0.5) for _ in range(draw.randint(1, 4))]
        frames = conversation(asked)
        for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
            frames = draw.choice(_FRAMES)(draw, frames)
        data = encoded(frames)
        for _ in range(draw.choice((0, 0, 0, 1, 2, 8))):
            data = draw.choice(_BYTES)(draw, data)
        if draw.random() < 0.02:
            data = draw.choice(_OTHER_PROTOCOLS)(draw)
        return data[:_MOST_BYTES]

    def _spoiled(self, call: Call, spoil: bool) -> Call:
        return self._draw.choice(_CALLS)(self._draw, call) if spoil else call


def _unknown_path(draw: random.Random, call: Call) -> Call:
    service, _, method = call.path.rpartition(b"/")
    paths = (
        *(b"", b"/", b"*", b"//", service, service + b"/No", b"/no.Such/" + method, call.path + b"/x", call.path[1:]),
        *(call.path.lower(), b"/" + b"a" * 9_000, b"/../..", call.path + b"?x=%00", call.path + b"\xff", b"/\xc3\x28"),
    )
    return replace(call, path=draw.choice(paths))


def _garbage_message(draw: random.Random, call: Call) -> Call:
    kinds = (
        lambda: draw.randbytes(draw.randint(0, 200)),
        lambda: _flipped(draw, call.message),
        lambda: call.message + call.message,
        lambda: call.message[: draw.randint(0, len(call.message))],
        # A string that is not UTF-8; nested groups; an endless length; a number of eleven bytes.
        lambda: b"\x0a\x04\xff\xfe\xc3\x28",
        lambda: b"\x0b" * draw.choice((10, 100, 10_000)),
        lambda: b"\x12\xff\xff\xff\xff\x0f",
        lambda: b"\x08" + b"\xff" * 11,
        lambda: b"\x12\x02\x12\x00" * draw.choice((1, 1_000)),
        lambda: b"\x2a\x02\x0a\x00" * draw.choice((1_001, 20_000)),
    )
    return replace(call, message=draw.choice(kinds)())


def _metadata(draw: random.Random, call: Call) -> Call:
    kinds = (
        lambda: (b"authorization", draw.choice((b"Bearer ", b"Bearer \xff\xfe", b"x" * 5_000, b"\0"))),
        lambda: (b"grpc-timeout", draw.choice((b"", b"-1S", b"0n", b"99999999H", b"999999999S", b"1", b"1X", b"\xff"))),
        lambda: (b"grpc-encoding", draw.choice((b"gzip", b"deflate", b"none", b"", b"\xff", b"snappy"))),
        lambda: (b"grpc-accept-encoding", b"," * draw.choice((1, 2_000))),
        lambda: (b"content-type", draw.choice((b"", b"text/html", b"application/grpc+\xff", b"application/grpc"))),
        lambda: (b"x-bin", draw.choice((b"", b"!", b"AA=A", b"\xff" * 20, b"A" * 4_000))),
        lambda: (draw.choice((b"", b"X-Upper", b"a b", b"\xff", b":unknown", b":path", b"grpc-")), draw.randbytes(8)),
        lambda: (b"x-long", b"v" * draw.choice((8_000, 17_000, 70_000))),
        lambda: (b"connection", b"close"),
        lambda: (b"content-length", draw.choice((b"0", b"-1", b"99999999999"))),
        lambda: (b"host", b"\r\nx: y"),
    )
    many = draw.choice((1, 1, 1, 2, 300))
    return replace(call, metadata=(*call.metadata, *(draw.choice(kinds)() for _ in range(many))))


_CALLS: Sequence[Callable[[random.Random, Call], Call]] = (_unknown_path, _garbage_message, _garbage_message, _metadata)


def _message_head(draw: random.Random, frames: Conversation) -> Conversation:
    """gRPC's prefix with a wrong length or a wrong compressed flag."""

    def spoil(frame: Frame) -> Frame:
        message = frame.payload[5:]
        length = draw.choice((len(message), max(0, len(message) - 1), len(message) + 1, 0, *_EDGES))
        head = prefixed(message, compressed=draw.choice((0, 1, 1, 2, 255)), length=length & 0xFFFFFFFF)
        return replace(frame, payload=head)

    return _one(draw, frames, DATA, spoil)


def _frame_head(draw: random.Random, frames: Conversation) -> Conversation:
    def spoil(frame: Frame) -> Frame:
        changes = (
            {"length": draw.choice((0, len(frame.payload) + 1, max(0, len(frame.payload) - 1), 0x4001, 0xFFFFFF))},
            {"kind": draw.choice((*range(10), 11, 0xFF))},
            {"flags": draw.randint(0, 255)},
            {"stream": draw.choice((0, 1, 2, 3, 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF))},
        )
        return replace(frame, **draw.choice(changes))

    return _one(draw, frames, None, spoil)


def _header_block(draw: random.Random, frames: Conversation) -> Conversation:
    """Invalid HPACK: indices beyond the tables, huge sizes, broken Huffman codes, endless numbers."""
    blocks = (
        b"\xff\xff\xff\xff\x7f",
        b"\x3f\xff\xff\xff\xff\x07",
        b"\x80",
        b"\xbe" * 50,
        b"\x00\xff\xff\xff\xff\xff\xff",
        b"\x00\x84\xff\xff\xff\xff\x01x",
        b"\x40\x01a\x01b" * 3_000,
        b"\x82\x86\x84" + literals(((b"content-type", b"application/grpc"), (b":path", b"/late"))),
        literals([(b"x", b"y")] * 2_000),
        draw.randbytes(60),
    )
    block = draw.choice(blocks)
    after = draw.choice((True, False))
    return _one(draw, frames, HEADERS, lambda frame: replace(frame, payload=frame.payload * after + block))


def _endless_headers(draw: random.Random, frames: Conversation) -> Conversation:
    at, count = _place(draw, frames), draw.choice((1, 50, 1_000))
    begun = Frame(HEADERS, 0, 101, literals(((b":method", b"POST"),)))
    return (*frames[:at], begun, *(Frame(CONTINUATION, 0, 101, b"\x00\x01a\x01b"),) * count, *frames[at:])


def _storm(draw: random.Random, frames: Conversation) -> Conversation:
    """Many small frames: pings, settings, streams that are reset at once (CVE-2023-44487)."""
    at, count = _place(draw, frames), draw.choice((5, 50, 300))
    opening = next((frame for frame in frames if frame.kind == HEADERS), Frame(HEADERS, END_HEADERS, 1))
    kinds: tuple[Callable[[int], Conversation], ...] = (
        lambda number: (Frame(PING, 0, 0, struct.pack(">Q", number)),),
        lambda _: (Frame(SETTINGS, 0, 0, struct.pack(">HI", draw.randint(0, 8), draw.choice(_EDGES))),),
        lambda number: (
            replace(opening, stream=201 + 2 * number),
            Frame(RST_STREAM, 0, 201 + 2 * number, struct.pack(">I", 8)),
        ),
        lambda number: (replace(opening, stream=201 + 2 * number),),
        lambda _: (Frame(DATA, 0, 1, b""),),
        lambda _: (Frame(WINDOW_UPDATE, 0, draw.choice((0, 1)), struct.pack(">I", draw.choice(_EDGES))),),
    )
    kind = draw.choice(kinds)
    storm = [frame for number in range(count) for frame in kind(number)]
    return (*frames[:at], *storm, *frames[at:])


def _odd_frame(draw: random.Random, frames: Conversation) -> Conversation:
    at, stream = _place(draw, frames), draw.choice((0, 1, 3, 99))
    odd = (
        Frame(GOAWAY, 0, 0, struct.pack(">II", 1, 2) + b"bye"),
        Frame(RST_STREAM, 0, stream, struct.pack(">I", draw.randint(0, 20))),
        Frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 255)),
        Frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + b"\x82"),
        Frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0)),
        Frame(SETTINGS, 0, 0, draw.randbytes(draw.choice((1, 5, 6, 7, 600)))),
        Frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 0, 5, 16_384)),
        Frame(DATA, END_STREAM, stream, b"\0" * draw.choice((0, 1, 16_384, 16_385))),
        Frame(CONTINUATION, END_HEADERS, stream, b""),
        Frame(draw.randint(10, 255), draw.randint(0, 255), stream, draw.randbytes(20)),
    )
    return (*frames[:at], draw.choice(odd), *frames[at:])


def _shuffled(draw: random.Random, frames: Conversation) -> Conversation:
    order = list(frames)
    draw.shuffle(order)
    return tuple(order)


def _without_one(draw: random.Random, frames: Conversation) -> Conversation:
    at = _place(draw, frames)
    return (*frames[:at], *frames[at + 1 :])


def _twice(draw: random.Random, frames: Conversation) -> Conversation:
    at = _place(draw, frames)
    return (*frames[:at], *frames[at : at + 1] * draw.choice((2, 20)), *frames[at + 1 :])


def _unended(draw: random.Random, frames: Conversation) -> Conversation:
    """A request that never ends."""
    return _one(draw, frames, DATA, lambda frame: replace(frame, flags=frame.flags & ~END_STREAM))


_FRAMES: Sequence[Callable[[random.Random, Conversation], Conversation]] = (
    *(_message_head, _message_head, _frame_head, _frame_head, _header_block, _header_block),
    *(_endless_headers, _storm, _odd_frame, _odd_frame, _shuffled, _without_one, _twice, _unended),
)


def _flipped(draw: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    spoiled = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 10))):
        spoiled[draw.randrange(len(spoiled))] ^= 1 << draw.randrange(8)
    return bytes(spoiled)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def _spliced(draw: random.Random, data: bytes) -> bytes:
    begin, end = sorted(draw.randint(0, len(data)) for _ in range(2))
    at = draw.randint(0, len(data))
    return data[:at] + data[begin:end] + data[at:]


def _hole(draw: random.Random, data: bytes) -> bytes:
    begin = draw.randint(0, len(data))
    return data[:begin] + data[begin + draw.choice((1, 4, 100)) :]


def _inserted(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 9, 100, 20_000))) + data[at:]


_BYTES: Sequence[Callable[[random.Random, bytes], bytes]] = (_flipped, _flipped, _cut, _spliced, _hole, _inserted)

_OTHER_PROTOCOLS: Sequence[Callable[[random.Random], bytes]] = (
    lambda draw: draw.randbytes(draw.choice((0, 1, 24, 1_000, 100_000))),
    lambda _: b"GET /containers/json HTTP/1.1\r\nHost: localhost\r\n\r\n",
    lambda _: b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade\r\n\r\n",
    lambda draw: bytes.fromhex("16030100c5010000c10303") + draw.randbytes(195),
    lambda draw: PREFACE * draw.choice((2, 1_000)),
    lambda draw: PREFACE[: draw.randint(0, 23)],
)


def _place(draw: random.Random, frames: Conversation) -> int:
    return draw.randint(0, len(frames))


def _one(draw: random.Random, frames: Conversation, kind: int | None, spoil: Callable[[Frame], Frame]) -> Conversation:
    """The frames, with one frame of this type spoiled."""
    at = [number for number, frame in enumerate(frames) if kind is None or frame.kind == kind]
    if not at:
        return frames
    chosen = draw.choice(at)
    return (*frames[:chosen], spoil(frames[chosen]), *frames[chosen + 1 :])
