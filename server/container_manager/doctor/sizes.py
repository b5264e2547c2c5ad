"""Sizes as text."""

from __future__ import annotations

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size_text(size: float) -> str:
    """The size in the unit that fits it, such as ``905 MB``, ``1.3 GB`` or ``4.0 TB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in _UNITS:
        size /= 1000
        # What would round to 1000 is 1.0 of the next unit.
        if size < 999.5 or unit == _UNITS[-1]:
            break
    return f"{size:,.{0 if size >= 99.95 else 1}f} {unit}"
