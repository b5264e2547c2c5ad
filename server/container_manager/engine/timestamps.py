"""The engine's timestamps (RFC 3339) as nanoseconds since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)")


def time_ns(value: str | None) -> int | None:
    """Nanoseconds since the epoch from RFC 3339 with up to nine digits.

    ``None`` for the engine's year 1, which is year 0 in a zone behind UTC, and for a time that no ``datetime`` has.
    """
    match = _TIME.fullmatch(value or "")
    if match is None or match[1].startswith("0001-"):
        return None
    try:
        moment = datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3])).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return int(moment.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
