"""Whether a command printed what its document shows.

What differs from run to run is the same in kind: a time for a time, an id for an id, a duration for a duration. ``…``
stands for anything within a line, and alone on a line for any lines.
"""

from __future__ import annotations

import re

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# In this order: the first match wins.
_KINDS = (
    (_UUID, "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "<time>"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f0-9]{12})[0-9a-f]{12,64}\b"), "<id>"),
    (re.compile(r"\b[\d,.]+ ?(?:[kMGT]i?B|B)\b"), "<size>"),
    (re.compile(r"\b\d+(?:\.\d+)?%"), "<percent>"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:ms|s|m|h)\b"), "<duration>"),
    (re.compile(r"(?<=duration_ms)[=:] ?[\d.]+"), "<duration>"),
)
_ID = 36


class Likeness:
    """Compares the outputs of one document; one id in the document always stands for the same real id."""

    def __init__(self, ids: dict[str, str]) -> None:
        self._real = dict(ids)

    def difference(self, shown: list[str], printed: str) -> str:
        """How an output differs; empty when it is alike."""
        if shown and all(map(_UUID.match, shown)):
            # Bots that are handled in parallel appear in any order.
            documented = {real: one for one, real in self._real.items()}
            order = [each[:_ID] for each in shown]
            printed = "\n".join(
                sorted(printed.splitlines(), key=lambda line: _place(order, documented.get(line[:_ID])))
            )
        pattern = "".join("(?:[^\n]*\n)*" if line.strip() == "…" else f"{_pattern(line)}\n" for line in shown)
        lines = [_masked(line) for line in printed.splitlines()]
        if not re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)):
            return f"shown:\n{chr(10).join(shown)}\nprinted:\n{printed}"
        told, real = _UUID.findall("\n".join(shown)), _UUID.findall(printed)
        if len(told) == len(real):
            for one, other in zip(told, real, strict=True):
                if self._real.setdefault(one, other) != other:
                    return f"{one} stood for {self._real[one]} and stands for {other} now:\n{printed}"
        return ""


def _place(order: list[str], bot_id: str | None) -> int:
    return order.index(bot_id) if bot_id in order else len(order)


def _pattern(line: str) -> str:
    return "[^\n]*".join(re.escape(part) for part in _masked(line).split("…"))


def _masked(line: str) -> str:
    for kind, name in _KINDS:
        line = kind.sub(name, line)
    return re.sub(r"\s+", " ", line).strip()
