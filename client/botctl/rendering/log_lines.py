"""Writes log entries to a terminal or a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import BinaryIO

from botctl.rendering.words import time_text
from botmaker.container.v1 import container_observer_pb2 as pb

_COLOUR = rb"\x1b\[[0-9;:]*m"
_CONTROL = re.compile(rb"(" + _COLOUR + rb")|([\x00-\x08\x0a-\x1f\x7f])")
_STDERR, _RESET = b"\x1b[31m", b"\x1b[0m"


class LogWriter:
    """Writes entries to a stream of bytes: unchanged to a pipe, with visible control characters to a terminal."""

    def __init__(self, stream: BinaryIO, *, terminal: bool, colours: bool, timestamps: bool) -> None:
        self._stream = stream
        self._terminal = terminal
        self._colours = colours
        self._timestamps = timestamps
        # The source of an unfinished line.
        self._open: pb.LogEntry.Source | None = None

    def write(self, entries: Iterable[pb.LogEntry]) -> None:
        """Writes and flushes entries. After a partial one, the line stays open for its next part."""
        for entry in entries:
            self._write(entry)
        self._stream.flush()

    def _write(self, entry: pb.LogEntry) -> None:
        begins = self._open != entry.source
        if begins and self._open is not None:
            self._stream.write(b"\n")
        if begins and self._timestamps:
            self._stream.write(time_text(entry.time).encode() + b" ")
        self._stream.write(self._shown(entry))
        self._open = entry.source if entry.partial else None
        if not entry.partial:
            self._stream.write(b"\n")

    def close(self) -> None:
        """Ends an open line on a terminal, so that the prompt starts on a new one."""
        if self._open is not None and self._terminal:
            self._stream.write(b"\n")
            self._stream.flush()

    def _shown(self, entry: pb.LogEntry) -> bytes:
        if not self._terminal:
            return entry.line
        # A carriage return before the newline is part of the line's end.
        line = _CONTROL.sub(self._visible, entry.line.removesuffix(b"\r"))
        if not self._colours:
            return line
        if entry.source == pb.LogEntry.SOURCE_STDERR:
            return _STDERR + line + _RESET
        return line + _RESET if b"\x1b" in line else line

    def _visible(self, found: re.Match[bytes]) -> bytes:
        if found[1] is not None:
            return found[1] if self._colours else b""
        return b"^" + bytes([found[2][0] ^ 0x40])
