"""An entry's place in the log: a time that is unique and grows, so that a reader can go on after it.

The engine's times are neither: pieces of one line share theirs, and entries of the two sources can stand in the log in
another order than they were read in. So each entry is placed at its own time, or else a nanosecond after the entry
before it. Where a reading began does not matter: with :data:`MARGIN_NS` before the place to go on from, every entry
after it gets the place that it had. For an entry that the engine leaves out, being older than the margin, moves on only
those that are a second older than the place at least, and they move others by a nanosecond each; no log holds the
10^9 entries that it would take to cover that second.

An entry that is more than :data:`CLOCK_STEP_NS` older than the one before it was written after the machine's clock had
been set back, or else would be shown with a time that is too wrong. It is placed at its own time. Over such a step
nothing else can be promised than that an uninterrupted reading is complete.
"""

from __future__ import annotations

from collections.abc import Iterable

from container_manager.model import LogEntry, RawEntry

CLOCK_STEP_NS = 10_000_000_000
"""Generous: a writer that waits for a disk is that much out of order, and a place that goes back is none."""

MARGIN_NS = CLOCK_STEP_NS + 1_000_000_000
"""How far before a place a reading has to begin. The longer, the more is read for nothing."""

# Entries that may stand, out of order, before the first one of a tail.
_MAX_HELD = 256


class Placing:
    """Gives the entries of one reading their places, one after another."""

    def __init__(self) -> None:
        self.last_ns: int | None = None
        """The last entry's place; ``None`` before the first one."""

    def place(self, engine_ns: int) -> int:
        """The place of the next entry, whose time is ``engine_ns``."""
        last_ns = self.last_ns
        if last_ns is None or engine_ns > last_ns or last_ns - engine_ns > CLOCK_STEP_NS:
            self.last_ns = engine_ns
        else:
            self.last_ns = last_ns + 1
        return self.last_ns


class Window:
    """The entries that one reading is to hand out: those after a place, and from the first one of a tail on.

    Where both are given, both hold. As places grow, the entries after a place are the log's end, and the last N of
    them are those among the last N of all.
    """

    def __init__(self, after_ns: int | None = None, first: RawEntry | None = None) -> None:
        """``after_ns``: the place of the last entry that is not wanted. ``first``: the first one that is, as it was
        found in the log's tail; a piece of a line is wanted with all pieces before it.
        """
        if after_ns is not None and first is not None and first[0] < after_ns - MARGIN_NS:
            first = None  # it is not even read
        self._after_ns = after_ns
        self._first = first
        self._begun = after_ns is None and first is None
        self._held: list[LogEntry] = []
        self._placing = Placing()

    def since_ns(self, now_ns: int) -> int | None:
        """The engine's time from which on entries have to be read; ``None``: all of them.

        All also when the place is in the future. Then the clock was set back, and what was written since is older.
        """
        edges = [edge for edge in (self._after_ns, self._first and self._first[0]) if edge is not None]
        if not edges or max(edges) > now_ns or max(edges) <= MARGIN_NS:
            return None
        return max(edges) - MARGIN_NS

    def select(self, entries: Iterable[RawEntry]) -> list[LogEntry]:
        """Those of the next entries that are wanted, each with its place."""
        place = self._placing.place
        wanted: list[LogEntry] = []
        for engine_ns, source, line, partial in entries:
            entry = LogEntry(place(engine_ns), source, line, partial)
            if self._begun:
                wanted.append(entry)
            else:
                wanted += self._begin(entry, engine_ns)
        return wanted

    def release(self) -> list[LogEntry]:
        """Entries held back so far, for the case that the tail's first one has left the log in the meantime."""
        if not self._held:
            return []
        held, self._held = self._held, []
        self._begun = True
        return held

    def _begin(self, entry: LogEntry, engine_ns: int) -> list[LogEntry]:
        """The wanted ones, now that this entry has been read too and none was wanted before it."""
        wanted = self._after_ns is None or entry.time_ns > self._after_ns
        if self._after_ns is not None and entry.time_ns >= self._after_ns:
            self._after_ns = None  # whatever follows is wanted, also if the clock was set back
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
