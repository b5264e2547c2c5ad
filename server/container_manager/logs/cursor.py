"""An entry's cursor: its position in the log, from which any reader can continue, whatever the times of the entries.

The engine numbers nothing, its times are neither unique nor ordered, and the clock may be set back or forward. Within a
log, this identifies an entry: its time, its number among adjacent entries of the same time (the pieces of a long line
share one), a checksum of its source and its bytes, and the time before it. A reader finds it again in the last entries
of the log, however many that takes, and continues with the entry behind it.

A cursor is hexadecimal, so that it can be part of a URL::

    version   container   second   nanosecond   number   checksum   before   [shift]
       1          12         10         8          8         8         4        10     digits

``container`` is a digest of the container's id. ``number`` is twice the number among entries of the same time, plus
one if these are the first entries of the log, which may have lost some to the engine's rotation later. ``before`` is a
rest of the last time that differs. ``shift`` is how much later than the engine's time the entry is shown, in
nanoseconds; left out if it is the number among entries of the same time.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from container_manager.model import LogEntry, LogSource, RawEntry

CLOCK_STEP_NS = 10_000_000_000
"""An entry that is more than this older than the one before it was written after the clock had been set back."""

_VERSION = b"1"
_CONTAINER_BYTES = 6
_CONTAINER_DIGITS = 2 * _CONTAINER_BYTES
# Cursors count from the year 1, the first that time stamps have.
_YEAR_1_SECONDS = 62_135_596_800
_SECONDS_DIGITS = 10
_REST = Struct(">IIIH")
_SHIFT_DIGITS = 10
_SHORT_DIGITS = len(_VERSION) + _CONTAINER_DIGITS + _SECONDS_DIGITS + 2 * _REST.size
_LONG_DIGITS = _SHORT_DIGITS + _SHIFT_DIGITS
_HEX = frozenset("0123456789abcdef")
_NANOS = 1_000_000_000
# A changed cursor must not make the next ones overflow. No log has so many entries of one time, which are shown a
# nanosecond apart.
_MAX_NUMBER = 1 << 31
_MAX_SHIFT_NS = CLOCK_STEP_NS + (1 << 32)
# The checksum starts with the source. As CRC is linear, seeds of small values differ as short lines do.
_SEEDS = {LogSource.STDOUT: 0, LogSource.STDERR: 0xDEADBEEF}


class Position(NamedTuple):
    """What a cursor says."""

    container: bytes
    """Identifies the container: see :func:`container_key`."""
    engine_ns: int
    """The engine's own time of the entry."""
    number: int
    """How many entries of the same time are directly before it."""
    leads: bool
    """The first entry of that time was the first of the log, as far as the reader saw."""
    checksum: int
    before: int
    """Of the entry before the first one of that time: see :func:`rest_of`. 0 for the first entries of the log."""
    shown_ns: int
    """The time that is shown for the entry."""

    def is_of(self, source: LogSource, line: bytes) -> bool:
        """Whether the entry has this source and these bytes."""
        return self.checksum == crc32(line, _SEEDS[source])


def rest_of(time_ns: int) -> int:
    """What a cursor has of the time before: 16 bits in which times of any regularity differ."""
    return time_ns % 65_521


def container_key(container_id: str) -> bytes:
    """What a cursor has of a container's id."""
    return blake2b(container_id.encode(), digest_size=_CONTAINER_BYTES).hexdigest().encode()


def position_in(entry: RawEntry, number: int, before: int, *, leads: bool) -> Position:
    """The position of an entry that is looked for in the same log only: see :class:`Position`."""
    engine_ns, source, line, _ = entry
    return Position(b"", engine_ns, number, leads, crc32(line, _SEEDS[source]), before, engine_ns)


def position_of(cursor: str) -> Position:
    """The position that a cursor names. Raises :class:`ValueError` for a text that is not a cursor."""
    if len(cursor) not in (_SHORT_DIGITS, _LONG_DIGITS) or not _HEX.issuperset(cursor) or cursor[0] != "1":
        raise ValueError("is not the cursor of a log entry")
    container, rest = cursor[1 : 1 + _CONTAINER_DIGITS], cursor[1 + _CONTAINER_DIGITS :]
    seconds = int(rest[:_SECONDS_DIGITS], 16) - _YEAR_1_SECONDS
    nanos, number, checksum, before = _REST.unpack(
        bytes.fromhex(rest[_SECONDS_DIGITS : _SECONDS_DIGITS + 2 * _REST.size])
    )
    shift_ns = int(cursor[_SHORT_DIGITS:], 16) if len(cursor) == _LONG_DIGITS else number >> 1
    if nanos >= _NANOS or number > _MAX_NUMBER or shift_ns > _MAX_SHIFT_NS:
        raise ValueError("is not the cursor of a log entry")
    engine_ns = seconds * _NANOS + nanos
    return Position(
        container.encode(), engine_ns, number >> 1, bool(number & 1), checksum, before, engine_ns + shift_ns
    )


class Placing:
    """Gives entries that follow one another their cursors, and times that are unique and grow.

    An entry is shown at its own time, or a nanosecond after the previous entry if that is later. So a time identifies
    an entry as well, as long as the clock is not set back by more than :data:`CLOCK_STEP_NS`.
    """

    def __init__(self, container: bytes, last: Position | None = None) -> None:
        """``last``: the position of the entry before the next one; ``None``: the next one is the first of the log."""
        self._prefix = _VERSION + container
        self._container = container
        self._engine_ns = last and last.engine_ns
        self._shown_ns = last.shown_ns if last else 0
        # Twice the number among entries of one time, plus one at the start of the log, as in the cursor.
        self._number = 2 * last.number + last.leads if last else -1
        self._checksum = last.checksum if last else 0
        self._before = last.before if last else 0
        self._seconds: int | None = None
        self._head = b""

    @property
    def last(self) -> Position | None:
        """The position of the last entry; ``None`` before the first one."""
        if self._engine_ns is None:
            return None
        number = self._number
        return Position(
            self._container,
            self._engine_ns,
            number >> 1,
            bool(number & 1),
            self._checksum,
            self._before,
            self._shown_ns,
        )

    def place(self, entries: Iterable[RawEntry], *, gap: bool = False) -> list[LogEntry]:
        """The next entries. ``gap``: the first of them does not follow the previous one."""
        placed: list[LogEntry] = []
        # One flat loop with local names: every entry of every log passes here.
        append, new, pack, seeds, prefix = placed.append, tuple.__new__, _REST.pack, _SEEDS, self._prefix
        engine_ns, shown_ns, number, checksum = self._engine_ns, self._shown_ns, self._number, self._checksum
        before, seconds_before, head = self._before, self._seconds, self._head
        for time_ns, source, line, partial in entries:
            if time_ns == engine_ns:
                number += 2
                shown_ns += 1
            else:
                number = 0 if engine_ns is not None else 1
                shown_ns = (
                    time_ns
                    if engine_ns is None or time_ns > shown_ns or shown_ns - time_ns > CLOCK_STEP_NS
                    else shown_ns + 1
                )
                before = 0 if engine_ns is None else rest_of(engine_ns)
                engine_ns = time_ns
            checksum = crc32(line, seeds[source])
            seconds, nanos = divmod(time_ns, _NANOS)
            if seconds != seconds_before:
                seconds_before, head = seconds, prefix + b"%010x" % (seconds + _YEAR_1_SECONDS)
            cursor = head + hexlify(pack(nanos, number, checksum, before))
            if shown_ns - time_ns != number >> 1:
                cursor += b"%010x" % (shown_ns - time_ns)
            append(new(LogEntry, (shown_ns, source, line, partial, cursor, gap)))
            gap = False
        self._engine_ns, self._shown_ns, self._number, self._checksum = engine_ns, shown_ns, number, checksum
        self._before, self._seconds, self._head = before, seconds_before, head
        return placed
