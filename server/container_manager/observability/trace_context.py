"""Where a call stands in its trace (W3C Trace Context)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import NamedTuple

# Unique is all that they have to be, and a new one is made for every call.
_random = random.Random()  # noqa: S311

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION = "ff"
_KNOWN_VERSION = "00"
_SAMPLED = 0x01
# What the specification asks to be carried at least; longer ones are left off.
_MAX_STATE = 512


class TraceContext(NamedTuple):
    """A span to be, and what it belongs to."""

    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    parent_id: int = 0
    """The caller's span; 0: the trace begins here."""
    state: str = ""
    """The caller's ``tracestate``."""

    @classmethod
    def of_call(cls, metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
        """The caller's trace continued, or a new one; ``None`` when the caller has decided that it is not recorded."""
        parent: re.Match[str] | None = None
        state = ""
        for key, value in metadata:
            if key == "traceparent" and isinstance(value, str):
                parent = _valid(value)
            elif key == "tracestate" and isinstance(value, str) and len(value) <= _MAX_STATE:
                state = value
        if parent is None:
            return cls(_random.getrandbits(128) or 1, new_span_id())
        if not int(parent[4], 16) & _SAMPLED:
            return None
        return cls(int(parent[2], 16), new_span_id(), int(parent[3], 16), state)


def new_span_id() -> int:
    """64 random bits, not all 0."""
    return _random.getrandbits(64) or 1


def _valid(text: str) -> re.Match[str] | None:
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or found[1] == _INVALID_VERSION or (found[1] == _KNOWN_VERSION and found[5]):
        return None
    return found if int(found[2], 16) and int(found[3], 16) else None
