"""An entry's place in the log: a time that is unique and grows, from which a reader can continue.

The engine's times are neither unique nor ordered: pieces of one line share a time, and the engine may store entries of
the two sources in another order than it read them. So each entry is placed at its own time, or a nanosecond after the
previous entry if that is later.

An entry gets the same place wherever a reading starts, if the reading starts :data:`MARGIN_NS` before the place to
continue from. An entry that the engine then leaves out, being older than the margin, could only have moved entries that
are at least a second older than that place. Those move others by a nanosecond each, and no log holds the 10^9 entries
that would be needed to bridge that second.

An entry that is more than :data:`CLOCK_STEP_NS` older than the previous one was written after the machine's clock had
been set back. It is placed at its own time, since the other time would be too wrong to show. Across such a step only an
uninterrupted reading is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from container_manager.model import LogEntry, RawEntry

CLOCK_STEP_NS = 10_000_000_000
"""Large enough for entries that are out of order because a writer waited for a disk: placing one back in time would
break the order."""

MARGIN_NS = CLOCK_STEP_NS + 1_000_000_000
"""How far before a place a reading has to start. A larger margin reads more entries only to skip them."""

# How many out-of-order entries may precede the first one of a tail.
_MAX_HELD = 256


class Placing:
    """Gives the entries of one reading their places, in order."""

    def __init__(self) -> None:
        self.last_ns: int | None = None
        """The last entry's place; ``None`` before the first one."""

    def place(self, entries: Iterable[RawEntry]) -> list[LogEntry]:
        """The next entries, each with its place."""
        placed = []
        last_ns = self.last_ns
        for engine_ns, source, line, partial in entries:
            if last_ns is None or engine_ns > last_ns or last_ns - engine_ns > CLOCK_STEP_NS:
                last_ns = engine_ns
            else:
                last_ns += 1
            placed.append(LogEntry(last_ns, source, line, partial))
        self.last_ns = last_ns
        return placed


class Window:
    """Selects the entries that one reading delivers: those after a place and from the first one of a tail on.

    If both are given, both apply. As places grow, the entries after a place are the end of the log, and the last N of
    them are among the last N of all.
    """

    def __init__(self, after_ns: int | None = None, first: RawEntry | None = None) -> None:
        """``after_ns``: the place of the last entry before the window. ``first``: the first entry of the window, as it
        was found in the log's tail. If it is a piece of a line, the window includes all earlier pieces.
        """
        if after_ns is not None and first is not None and first[0] < after_ns - MARGIN_NS:
            first = None  # the reading starts after it
        self._after_ns = after_ns
        self._first = first
        self._begun = after_ns is None and first is None
        self._held: list[LogEntry] = []
        self._placing = Placing()

    def since_ns(self, now_ns: int) -> int | None:
        """The engine's time from which on entries have to be read; ``None``: all of them.

        Also all if the place is in the future: then the clock was set back, and newer entries have earlier times.
        """
        edges = [edge for edge in (self._after_ns, self._first and self._first[0]) if edge is not None]
        if not edges or max(edges) > now_ns or max(edges) <= MARGIN_NS:
            return None
        return max(edges) - MARGIN_NS

    def select(self, entries: Sequence[RawEntry]) -> list[LogEntry]:
        """Those of the next entries that are in the window, each with its place."""
        placed = self._placing.place(entries)
        if self._begun:
            return placed
        wanted: list[LogEntry] = []
        for (engine_ns, *_), entry in zip(entries, placed, strict=True):
            wanted += [entry] if self._begun else self._begin(entry, engine_ns)
        return wanted

    def release(self) -> list[LogEntry]:
        """The entries held back so far, in case the tail's first one has left the log in the meantime."""
        if not self._held:
            return []
        held, self._held = self._held, []
        self._begun = True
        return held

    def _begin(self, entry: LogEntry, engine_ns: int) -> list[LogEntry]:
        """The entries to deliver now that this one has been read, while none has been delivered yet."""
        wanted = self._after_ns is None or entry.time_ns > self._after_ns
        if self._after_ns is not None and entry.time_ns >= self._after_ns:
            self._after_ns = None  # deliver all that follow, even if the clock was set back
        if self._first is not None and (engine_ns, entry.source) == self._first[:2]:
            self._first = None
            self._held.clear()
        if not wanted:
            return []
        if self._first is None:
            self._begun = True
            return [entry]
        if engine_ns >= self._first[0]:
            self._held.append(entry)
        return self.release() if len(self._held) > _MAX_HELD else []
