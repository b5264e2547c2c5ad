"""What all callers together may have the server keep at once: memory, such as of ids or of contents that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from container_manager.errors import CapacityExceededError


class Allowance:
    """Counts what is kept, in any unit, on one event loop."""

    def __init__(self, limit: int, refusal: str) -> None:
        """``refusal``: the message of an error, with ``{kept}``, ``{more}`` and ``{limit}``."""
        self._limit = limit
        self._refusal = refusal
        self._kept = 0

    @contextmanager
    def keep(self, more: int) -> Iterator[None]:
        """Keep so much more inside the block. Raises :class:`CapacityExceededError` if that is too much."""
        if more and self._kept + more > self._limit:
            raise CapacityExceededError(self._refusal.format(kept=self._kept, more=more, limit=self._limit))
        self._kept += more
        try:
            yield
        finally:
            self._kept -= more
