"""Writes log entries to a terminal or a pipe."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import BinaryIO

from botctl.rendering.unsafe_text import UNSAFE, visible
from botctl.rendering.words import time_text
from botmaker.container.v1 import container_observer_pb2 as pb

_COLOUR = r"\x1b\[[0-9;:]*m"
_CONTROL = re.compile(rf"({_COLOUR})|(?!\t){UNSAFE}")
_STDERR, _RESET = "\x1b[31m", "\x1b[0m"
# Python decodes a byte that is not UTF-8 to the character with this number more.
_ODD_BYTE = 0xDC00


class LogWriter:
    """Writes entries to a stream of bytes: unchanged to a pipe, with visible control characters to a terminal."""

    def __init__(self, stream: BinaryIO, *, terminal: bool, colours: bool, timestamps: bool) -> None:
        self._stream = stream
        self._terminal = terminal
        self._colours = colours
        self._timestamps = timestamps
        # The source of an unfinished line.
        self._open: pb.LogEntry.Source | None = None
        # It keeps the first bytes of a character that the next part of the line continues.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def write(self, entries: Iterable[pb.LogEntry]) -> None:
        """Writes and flushes entries. After a partial one, the line stays open for its next part."""
        for entry in entries:
            self._write(entry)
        self._stream.flush()

    def _write(self, entry: pb.LogEntry) -> None:
        begins = self._open != entry.source
        if begins and self._open is not None:
            self._stream.write(self._rest() + b"\n")
        if begins and self._timestamps:
            self._stream.write(time_text(entry.time).encode() + b" ")
        self._stream.write(self._shown(entry))
        self._open = entry.source if entry.partial else None
        if not entry.partial:
            self._stream.write(b"\n")

    def close(self) -> None:
        """Ends an open line on a terminal, so that the prompt starts on a new one."""
        if self._open is not None and self._terminal:
            self._stream.write(self._rest() + b"\n")
            self._stream.flush()

    def _shown(self, entry: pb.LogEntry) -> bytes:
        if not self._terminal:
            return entry.line
        # A carriage return before the newline is part of the line's end.
        text = self._decoder.decode(entry.line.removesuffix(b"\r"), final=not entry.partial)
        line = _CONTROL.sub(self._visible, text)
        if self._colours and entry.source == pb.LogEntry.SOURCE_STDERR:
            line = _STDERR + line + _RESET
        elif self._colours and "\x1b" in line:
            line += _RESET
        return line.encode()

    def _rest(self) -> bytes:
        """The first bytes of a character whose others have not come."""
        return _CONTROL.sub(self._visible, self._decoder.decode(b"", final=True)).encode()

    def _visible(self, found: re.Match[str]) -> str:
        if found[1] is not None:
            return found[1] if self._colours else ""
        code = ord(found[0])
        if code < 0x80:
            return "^" + chr(code ^ 0x40)
        return visible(chr(code - _ODD_BYTE) if code > _ODD_BYTE else found[0])
