r"""Decodes the engine's response to ``GET /containers/{id}/logs?timestamps=1`` into entries.

Without a terminal the response is a sequence of frames: one byte for the source, three zero bytes, four bytes for the
size, then one entry, ``2026-11-23T23:34:35.865920324Z text\n`` (Docker Engine API, "Stream format"). The newline is
missing if the line continues in the next frame, which then has the same time, or if a process ended without writing
one. The log drivers ``local`` and ``journald`` of older engines write the time in the engine's zone, with ``+01:00`` in
place of ``Z``. The log of a container with a terminal has no frames and is refused: no bot has a terminal.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from struct import Struct

from container_manager.model import LogSource, RawEntry

MAX_LINE_BYTES = 64 * 1024
"""Longer entries are split. The engine itself splits lines at 16 KiB."""

_STAMP_BYTES = len("2026-11-23T23:34:35.865920324Z ")
_LONGEST_STAMP = len("2026-11-23T23:34:35.865920324+01:00 ")
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.)(\d{9})(Z|[+-]\d\d:\d\d) ")

# About 100 lines of usual length. They are decoded, placed and encoded in half a millisecond, without a pause.
STEP_BYTES = 8 * 1024

_HEADER = Struct(">BxxxL")
# The header and the parts of the usual time stamp: second, fraction, zone.
_START = Struct(">BxxxL20s9s2s")
_ZONE = b"Z "
# A longer one has more than an entry of one piece.
_LONGEST_FRAME = _STAMP_BYTES + MAX_LINE_BYTES
_SOURCES = {1: LogSource.STDOUT, 2: LogSource.STDERR}
_SYSTEM_ERROR = 3
_NEWLINE = 0x0A
# The rest of an entry that is being split: its time, its source, and the number of bytes still to come.
_Long = tuple[int, LogSource, int]


class LogFormatError(Exception):
    """The response does not look like an engine's log."""


class LogFaultError(Exception):
    """An entry is damaged, or the engine reports in the log, in its own words, that it cannot read on."""


class FrameDecoder:
    """Decodes one response. A frame that is cut off at the end is dropped.

    An entry longer than :data:`MAX_LINE_BYTES` is split at the same places however it arrives, so that each piece has
    a fixed position in the log.
    """

    def __init__(self) -> None:
        self.problem: Exception | None = None
        """What stopped the decoding, :class:`LogFormatError` or :class:`LogFaultError`; raise it after the entries."""
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = _HEADER.size
        self._long: _Long | None = None
        # Most time stamps share their second with the one before. One that is not in UTC is kept with its zone.
        self._second = b""
        self._second_ns = 0

    async def feed(self, data: bytes) -> AsyncIterator[list[RawEntry]]:
        """The entries that ``data`` completes, in batches of at least one.

        Decodes a small step for each batch, and lets other tasks run between two steps.
        """
        for begin in range(0, len(data), STEP_BYTES):
            if begin:
                await asyncio.sleep(0)
            if entries := self.feed_step(data[begin : begin + STEP_BYTES]):
                yield entries

    def feed_step(self, data: bytes) -> list[RawEntry]:
        """The entries that ``data`` completes; none after a :attr:`problem`."""
        if self.problem is not None:
            return []
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
            self.problem = exc
            position = len(data)
        self._parts = [data[position:]]
        self._size = len(data) - position
        return entries

    def _decode(self, data: bytes, entries: list[RawEntry]) -> int:
        """Append the complete entries. Returns the position after them and sets how many bytes the next one needs."""
        position, end = 0, len(data)
        if self._long is not None:
            position = self._decode_long(data, position, self._long, entries)
        while self._long is None:
            position = self._decode_short(data, position, entries)
            self._needed = _HEADER.size
            if end - position < self._needed:
                break
            kind, size = _HEADER.unpack_from(data, position)
            self._needed += size if size <= _LONGEST_FRAME else _LONGEST_STAMP
            if end - position < self._needed:
                break
            begin = position + _HEADER.size
            stop = begin + size
            if kind not in _SOURCES or size < _STAMP_BYTES:
                raise _problem(kind, data[begin:stop])
            # Too long, or _decode_short() would have taken it.
            time_ns, text = self._stamp(data, begin, stop)
            long = (time_ns, _SOURCES[kind], stop - text)
            position = self._decode_long(data, text, long, entries)
        return position

    def _decode_short(self, data: bytes, position: int, entries: list[RawEntry]) -> int:
        """Append entries up to the first that is incomplete, too long or malformed. Returns the position of that."""
        # Every byte of every log passes here: one unpack for header and stamp and local names make it three times as
        # fast as the plain code.
        append, unpack, sources, start = entries.append, _START.unpack_from, _SOURCES, _START.size
        end = len(data)
        second, second_ns = self._second, self._second_ns
        while end - position >= start:
            kind, size, its_second, fraction, zone = unpack(data, position)
            text, stop = position + start, position + _HEADER.size + size
            if kind not in sources or not _STAMP_BYTES <= size <= _LONGEST_FRAME or stop > end:
                break
            if its_second == second and zone == _ZONE and fraction.isdigit():
                time_ns = second_ns + int(fraction)
            else:
                time_ns, text = self._stamp(data, position + _HEADER.size, stop)
                second, second_ns = self._second, self._second_ns
            if data[stop - 1] == _NEWLINE:
                append((time_ns, sources[kind], data[text : stop - 1], False))
            else:
                append((time_ns, sources[kind], data[text:stop], True))
            position = stop
        return position

    def _decode_long(self, data: bytes, position: int, long: _Long, entries: list[RawEntry]) -> int:
        """As :meth:`_decode`, for the pieces of an entry that is split."""
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

    def _stamp(self, data: bytes, begin: int, end: int) -> tuple[int, int]:
        """The time of the stamp at ``begin``, in nanoseconds since the epoch, and the position of the text behind it.

        Raises :class:`LogFormatError`, or :class:`LogFaultError` for a date that does not exist.
        """
        match = _STAMP.match(data, begin, end)
        if match is None:
            raise _no_stamp(data, begin, end)
        second, fraction, zone = match.groups()
        key = second if zone == b"Z" else second + zone
        if key != self._second:
            try:
                moment = datetime.fromisoformat((second[:-1] + zone).decode("ascii"))
            except ValueError as exc:
                raise LogFaultError(f"an entry has an impossible time: {match[0].decode().strip()}") from exc
            self._second, self._second_ns = key, int(moment.timestamp()) * 1_000_000_000
        return self._second_ns + int(fraction), match.end()


def _no_stamp(data: bytes, begin: int, end: int) -> LogFormatError:
    return LogFormatError(f"no time stamp: {data[begin : min(begin + _LONGEST_STAMP, end)]!r}")


def _problem(kind: int, text: bytes) -> Exception:
    if kind == _SYSTEM_ERROR:
        return LogFaultError(text.decode("utf-8", "replace").strip())
    return LogFormatError(f"a frame of kind {kind}: {text[:_LONGEST_STAMP]!r}")
