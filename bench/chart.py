"""The measurements as a drawing: horizontal bars on a logarithmic scale, each told as a multiple of a base, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 1000
_NAMES = 300
_NUMBERS = 190
_LINE = 22
_GAP = 46
_TOP = 40
_BAR = 15
_COLOURS = {"ours": "#1b6e53", "base": "#8a8f98", "other": "#b9c4d6"}
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600;font-size:14px}"
    ".tick{font-size:11px;fill:#777}.number{font-variant-numeric:tabular-nums}"
)


@dataclass(frozen=True)
class Bars:
    """Values to be drawn under each other; the less the better."""

    title: str
    unit: str
    values: dict[str, float]
    base: str
    """The name of the value that the others are told as multiples of."""
    ours: tuple[str, ...]
    """The names of the service's own."""


def svg(groups: Sequence[Bars]) -> str:
    """An SVG document (SVG 1.1) of all groups, each with a scale of its own."""
    lines: list[str] = []
    y = _TOP
    for group in groups:
        lines += _group(group, y)
        y += _height(group)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
    )
    return "\n".join([head, *lines, "</svg>"]) + "\n"


def _height(group: Bars) -> int:
    return _LINE * (len(group.values) + 1) + _GAP


def _group(group: Bars, top: int) -> list[str]:
    low, high = _decades(list(group.values.values()))
    room = _WIDTH - _NAMES - _NUMBERS
    bottom = top + _LINE * len(group.values) + 8

    def position(value: float) -> float:
        return _NAMES + room * (math.log10(value) - low) / (high - low)

    lines = [_text(12, top - 8, f"{group.title} ({group.unit}, logarithmic)", "title")]
    for decade in range(low, high + 1):
        x = position(10**decade)
        lines.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        lines.append(_text(x, bottom + 14, f"{10**decade:g}", "tick", "middle"))
    base = group.values[group.base]
    for number, (name, value) in enumerate(group.values.items()):
        y = top + 6 + _LINE * number
        kind = "ours" if name in group.ours else "base" if name == group.base else "other"
        # The scale begins with a decade below the smallest value, so that every bar has a length.
        width = position(value) - _NAMES
        lines.append(_text(_NAMES - 10, y + _BAR - 3, name, "name", "end"))
        lines.append(f'<rect x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{_COLOURS[kind]}"/>')
        told = f"{_three(value)} {group.unit}" + ("" if name == group.base else f"   x {_three(value / base)}")
        lines.append(_text(_NAMES + width + 8, y + _BAR - 3, told, "number"))
    return lines


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that the scale begins and ends with."""
    low = math.floor(math.log10(min(values)))
    if math.log10(min(values)) - low < 0.2:
        low -= 1
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _three(value: float) -> str:
    """Three digits or so, and never an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"
