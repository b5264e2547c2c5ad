"""When a followed log can't be trusted any more, and has to be asked for anew.

What there is when a log is asked for, the engine reads from all of its files, which it has opened before anything else.
What comes after that it follows in the newest file only, and when that is replaced (after 10 MB) while it is behind, it
goes on with a later one and leaves out what is between. Engine 23 and later write that into their own log; 20.10 also
repeats lines from then on, and if the file is replaced while the first part is being read, it falls silent until the
next time (moby ``daemon/logger/loggerutils/logfile.go``, ``follow.go``). So a reading is broken off when it is so late
that the file can have been replaced twice, when it goes back in time, and when it is silent though there is more. The
next one begins with what there is and so has everything, once, until a container writes faster than it is read for so
long that the engine drops it.
"""

from __future__ import annotations

from collections.abc import Sequence

from container_manager.model import RawEntry

_MAX_BEHIND_BYTES = 4 << 20  # as they are sent; in a file, entries take up to about twice as much
_MAX_BEHIND_NS = 10_000_000_000
_MAX_STEP_BACK_NS = 100_000_000
# The engine is not held up by a reader whose buffers never fill. aiohttp's hold twice as much.
_HELD_UP_BYTES = 64 * 1024
_SHORTEST_NS = 1_000_000


class FollowCheck:
    """Judges one reading. Its times are the engine's, which is on the same machine."""

    def __init__(self, opened_ns: int) -> None:
        """``opened_ns``: when the log was asked for."""
        self._opened_ns = opened_ns
        self._begun_ns = opened_ns
        self._newest_ns = 0
        self._rate = 0.0
        self.last_ns: int | None = None
        """The time of the last entry; ``None`` before the first one."""

    def trusted(self, entries: Sequence[RawEntry], size: int, now_ns: int) -> int:
        """How many of the next entries are certain, which came at once, ``size`` bytes; if not all are: break off."""
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
        """Whether the file can have been replaced unnoticed; ``rate`` is in bytes per nanosecond."""
        behind_ns = now_ns - max(first_ns, self._opened_ns)
        # Following begins when what there was has been read.
        first_part_ns = self._begun_ns - self._opened_ns if self._newest_ns <= self._opened_ns else 0
        held_up = size >= _HELD_UP_BYTES and behind_ns > _MAX_BEHIND_NS
        return held_up or max(behind_ns, first_part_ns) * rate > _MAX_BEHIND_BYTES
