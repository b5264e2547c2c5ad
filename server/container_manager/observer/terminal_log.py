r"""The log of a container with a terminal: no frames, and everything is standard output.

Entries follow one another as ``2026-11-23T23:34:35.865920324Z text\r\n``. Where one has no newline, as every 16 KiB of
a long line and where a process ended without one, the next entry's time stands in the middle of the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from container_manager.observer.log_entries import (
    MAX_LINE_BYTES,
    STAMP_BYTES,
    LogFaultError,
    LogFormatError,
    RawEntry,
    Source,
    StampReader,
)

_STAMP = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z ")
# With so many bytes of a line at hand, any stamp that begins within the first MAX_LINE_BYTES is complete.
_ENOUGH_BYTES = MAX_LINE_BYTES + STAMP_BYTES
_ENGINE_ERROR = b"Error grabbing logs: "


class TerminalDecoder:
    """A :class:`~container_manager.observer.log_entries.Decoder`.

    A stamp in the middle of a line counts as one if it is not earlier than the line's own: a stamp that the process
    itself has written was taken before the engine's.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._problem: Exception | None = None
        self._stamps = StampReader()
        # The time of the line whose first pieces have been handed out.
        self._begun: int | None = None

    def feed(self, data: bytes) -> list[RawEntry]:
        return self._decode(data, last=False)

    def end(self) -> list[RawEntry]:
        """The rest: an entry without newline. One whose stamp is cut off is dropped."""
        return self._decode(b"", last=True)

    def _decode(self, data: bytes, *, last: bool) -> list[RawEntry]:
        if self._problem is not None:
            raise self._problem
        self._parts.append(data)
        self._size += len(data)
        # Nothing can be handed out before; looking again and again would cost the square of the line's length.
        if not last and b"\n" not in data and self._size < STAMP_BYTES + _ENOUGH_BYTES:
            return []
        *lines, rest = b"".join(self._parts).split(b"\n")
        entries: list[RawEntry] = []
        try:
            for line in lines:
                entries += self._line(line.removesuffix(b"\r"))
            rest = self._rest(rest, entries, last=last)
        except (LogFormatError, LogFaultError) as exc:
            self._problem = exc
            if not entries:
                raise
        self._parts, self._size = [rest], len(rest)
        return entries

    def _line(self, line: bytes) -> Iterator[RawEntry]:
        """All entries of what ends with a newline."""
        for time_ns, text, more in self._split(line):
            *pieces, remainder = _cut(text)
            yield from ((time_ns, Source.STDOUT, piece, True) for piece in pieces)
            yield (time_ns, Source.STDOUT, remainder, more)
        self._begun = None

    def _rest(self, rest: bytes, entries: list[RawEntry], *, last: bool) -> bytes:
        """Take over what of a line without newline is certain; the bytes that are not."""
        if last:
            if self._begun is not None or len(rest) >= STAMP_BYTES:
                entries += ((time_ns, source, text, True) for time_ns, source, text, _ in self._line(rest) if text)
            return b""
        while len(rest) - (0 if self._begun is not None else STAMP_BYTES) >= _ENOUGH_BYTES:
            time_ns, text, more = next(self._split(rest))
            if more and len(text) <= MAX_LINE_BYTES:
                entries.append((time_ns, Source.STDOUT, text, True))
                rest = rest[len(text) + (0 if self._begun is not None else STAMP_BYTES) :]
                self._begun = None
            else:
                entries.append((time_ns, Source.STDOUT, text[:MAX_LINE_BYTES], True))
                rest = rest[MAX_LINE_BYTES + (0 if self._begun is not None else STAMP_BYTES) :]
                self._begun = time_ns
        return rest

    def _split(self, line: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """Each entry's time and text, and whether another one follows on the same line."""
        if self._begun is not None:
            time_ns, begin = self._begun, 0
        else:
            if line.startswith(_ENGINE_ERROR):
                raise LogFaultError(line.decode("utf-8", "replace"))
            time_ns, begin = self._stamps.read(line, 0), STAMP_BYTES
        for match in _STAMP.finditer(line, begin):
            try:
                next_ns = self._stamps.read(line, match.start())
            except LogFormatError:
                continue
            if next_ns >= time_ns:
                yield time_ns, line[begin : match.start()], True
                time_ns, begin = next_ns, match.end()
        yield time_ns, line[begin:], False


def _cut(text: bytes) -> Iterator[bytes]:
    """Pieces of at most :data:`MAX_LINE_BYTES`; at least one, which may be empty."""
    yield text[:MAX_LINE_BYTES]
    for begin in range(MAX_LINE_BYTES, len(text), MAX_LINE_BYTES):
        yield text[begin : begin + MAX_LINE_BYTES]
