"""Decides when a followed log may miss entries and has to be requested again.

The engine opens all files of a log when the log is requested, and reads the existing entries from them. After that it
follows only the newest file. If that file is replaced (after 10 MB) while the engine is behind, it continues with a
later file and skips the entries in between. Engine 23 and later report this in their own log only. Engine 20.10 also
repeats lines from then on; and if the file is replaced while the engine reads the existing entries, it sends nothing
until the next replacement (moby ``daemon/logger/loggerutils/logfile.go``, ``follow.go``).

So a reading is ended when it is so late that the file may have been replaced twice, when its times go back, and when it
is silent though there are more entries. The next reading starts with the existing entries and so has every entry once,
unless a container writes faster than its log is read for so long that the engine drops entries.
"""

from __future__ import annotations

from collections.abc import Sequence

from container_manager.model import RawEntry

_MAX_BEHIND_BYTES = 4 << 20  # as sent; in the file, entries take up to about twice as much
_MAX_BEHIND_NS = 10_000_000_000
_MAX_STEP_BACK_NS = 100_000_000
# A reader whose buffers never fill does not hold up the engine. aiohttp buffers twice as much.
_HELD_UP_BYTES = 64 * 1024
_SHORTEST_NS = 1_000_000


class FollowCheck:
    """Checks one reading. Compares the engine's times with the local clock: both are on the same machine."""

    def __init__(self, opened_ns: int) -> None:
        """``opened_ns``: when the log was requested."""
        self._opened_ns = opened_ns
        self._begun_ns = opened_ns
        self._newest_ns = 0
        self._rate = 0.0
        self.last_ns: int | None = None
        """The time of the last entry; ``None`` before the first one."""

    def trusted(self, entries: Sequence[RawEntry], size: int, now_ns: int) -> int:
        """How many of these entries, which arrived together in ``size`` bytes, are complete so far.

        If not all are, end the reading.
        """
        if not entries:
            return 0
        first_ns, self.last_ns = entries[0][0], entries[-1][0]
        if self._newest_ns <= self._opened_ns and first_ns <= self._opened_ns:
            self._begun_ns = now_ns
        rate = size / max(self.last_ns - first_ns, _SHORTEST_NS) if size >= _HELD_UP_BYTES else 0.0
        late = self._late(first_ns, max(rate, self._rate), size, now_ns)
        self._rate = rate
        for index, (engine_ns, *_) in enumerate(entries):
            if engine_ns >= self._newest_ns:
                if late and engine_ns > self._opened_ns:
                    return index
                self._newest_ns = engine_ns
            elif self._newest_ns > self._opened_ns and self._newest_ns - engine_ns > _MAX_STEP_BACK_NS:
                return index
        return len(entries)

    def _late(self, first_ns: int, rate: float, size: int, now_ns: int) -> bool:
        """Whether the file may have been replaced unnoticed. ``rate``: bytes per nanosecond."""
        behind_ns = now_ns - max(first_ns, self._opened_ns)
        # The engine starts to follow when it has read the existing entries.
        first_part_ns = self._begun_ns - self._opened_ns if self._newest_ns <= self._opened_ns else 0
        held_up = size >= _HELD_UP_BYTES and behind_ns > _MAX_BEHIND_NS
        return held_up or max(behind_ns, first_part_ns) * rate > _MAX_BEHIND_BYTES
