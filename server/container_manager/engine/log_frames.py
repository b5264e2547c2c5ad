r"""What the engine answers to ``GET /containers/{id}/logs?timestamps=1``, cut into entries.

Without a terminal the answer is a row of frames: a byte for the source, three zeros, the size as four bytes, and then
one entry, ``2026-11-23T23:34:35.865920324Z text\n`` (Docker Engine API, "Stream format"). The newline is missing where
a line goes on in the next frame, which has the same time then, and where a process ended without one. A terminal's log
has no frames; it is refused, since no bot has a terminal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from struct import Struct

from container_manager.model import LogSource, RawEntry

MAX_LINE_BYTES = 64 * 1024
"""No entry handed out is longer; the engine's own pieces have 16 KiB."""

STAMP_BYTES = len("2026-11-23T23:34:35.865920324Z ")
_SECOND_BYTES = len("2026-11-23T23:34:35.")


_HEADER = Struct(">BxxxL")
_LONGEST_FRAME = STAMP_BYTES + MAX_LINE_BYTES
_SOURCES = {1: LogSource.STDOUT, 2: LogSource.STDERR}
_SYSTEM_ERROR = 3
_NEWLINE = 0x0A
# The entry that is being handed out in pieces: its time, its source, and how many bytes are still to come.
_Long = tuple[int, LogSource, int]


class LogFormatError(Exception):
    """An answer that is not what an engine's log looks like."""


class LogFaultError(Exception):
    """The engine has put an error of its own into the log, in its own words, and says no more."""


class StampReader:
    """Reads time stamps; most of them share their second with the one before."""

    def __init__(self) -> None:
        self._second = b""
        self._second_ns = 0

    def read(self, data: bytes, position: int) -> int:
        """The time at ``position``, in nanoseconds. Raises :class:`LogFormatError`."""
        begin = position + _SECOND_BYTES
        second, rest = data[position:begin], data[begin : position + STAMP_BYTES]
        if not rest.endswith(b"Z "):
            raise LogFormatError(f"no time stamp: {second + rest!r}")
        try:
            if second != self._second:
                moment = datetime.strptime(second.decode("ascii"), "%Y-%m-%dT%H:%M:%S.").replace(tzinfo=UTC)
                self._second, self._second_ns = second, int(moment.timestamp()) * 1_000_000_000
            return self._second_ns + int(rest[:9])
        except ValueError as exc:
            raise LogFormatError(f"no time stamp: {second + rest!r}") from exc


class FrameDecoder:
    """The log of a container without a terminal. A frame that is cut off is dropped, never handed out by half.

    An entry longer than :data:`MAX_LINE_BYTES` comes in pieces, cut at the same places however it arrives, so that
    each of them has its own place in the log.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = _HEADER.size
        self._problem: Exception | None = None
        self._stamps = StampReader()
        self._long: _Long | None = None

    def feed(self, data: bytes) -> list[RawEntry]:
        if self._problem is not None:
            raise self._problem
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        entries: list[RawEntry] = []
        try:
            position = self._decode(data, entries)
        except (LogFormatError, LogFaultError) as exc:
            self._problem = exc
            position = len(data)
            if not entries:
                raise
        self._parts = [data[position:]]
        self._size = len(data) - position
        return entries

    def end(self) -> list[RawEntry]:
        if self._problem is not None:
            raise self._problem
        return []

    def _decode(self, data: bytes, entries: list[RawEntry]) -> int:
        """Append what is complete; how far that went. Sets how many bytes are needed to go on from there."""
        position, end = 0, len(data)
        if self._long is not None:
            position = self._decode_long(data, position, self._long, entries)
        read_stamp, append, unpack, header = self._stamps.read, entries.append, _HEADER.unpack_from, _HEADER.size
        while self._long is None:
            self._needed = header
            if end - position < header:
                break
            kind, size = unpack(data, position)
            self._needed = header + (size if size <= _LONGEST_FRAME else STAMP_BYTES)
            if end - position < self._needed:
                break
            begin = position + header
            text, stop = begin + STAMP_BYTES, begin + size
            if kind not in _SOURCES or size < STAMP_BYTES:
                raise _problem(kind, data[begin:stop])
            time_ns = read_stamp(data, begin)
            if size > _LONGEST_FRAME:
                position = self._decode_long(data, text, (time_ns, _SOURCES[kind], stop - text), entries)
                continue
            if data[stop - 1] == _NEWLINE:
                append((time_ns, _SOURCES[kind], data[text : stop - 1], False))
            else:
                append((time_ns, _SOURCES[kind], data[text:stop], True))
            position = stop
        return position

    def _decode_long(self, data: bytes, position: int, long: _Long, entries: list[RawEntry]) -> int:
        """The same within a long entry."""
        time_ns, source, left = long
        self._long = None
        while left:
            self._needed = min(left, MAX_LINE_BYTES)
            if len(data) - position < self._needed:
                self._long = (time_ns, source, left)
                break
            piece = data[position : position + self._needed]
            position += len(piece)
            left -= len(piece)
            line = piece if left else piece.removesuffix(b"\n")
            entries.append((time_ns, source, line, len(line) == len(piece)))
        return position


def _problem(kind: int, text: bytes) -> Exception:
    if kind == _SYSTEM_ERROR:
        return LogFaultError(text.decode("utf-8", "replace").strip())
    return LogFormatError(f"a frame of kind {kind}: {text[:STAMP_BYTES]!r}")
