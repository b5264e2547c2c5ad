"""Medians, tails, and ratios of what was measured in the same round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

_TAIL = 0.025


class Ratio(NamedTuple):
    """How many times as long as another; drift of the machine cancels out, as both were measured side by side."""

    median: float
    """Of the rounds' ratios."""
    low: float
    high: float
    """A 95 % interval of that median; with fewer than six rounds, the smallest and largest ratio."""

    def __str__(self) -> str:
        return f"{_three(self.median)} [{_three(self.low)}, {_three(self.high)}]"


def ratio(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """The ratio of two series whose n-th values belong to the same round."""
    ratios = sorted(value / other for value, other in zip(values, base, strict=True))
    cut = _ranks_to_cut(len(ratios))
    return Ratio(median(ratios), ratios[cut], ratios[-1 - cut])


def milliseconds(seconds: Sequence[float]) -> str:
    """The median, with three digits or so."""
    return in_milliseconds(median(seconds))


def in_milliseconds(seconds: float) -> str:
    """With three digits or so."""
    return _three(seconds * 1000)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all are not above (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def _three(value: float) -> str:
    if value < 0.1:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ranks_to_cut(count: int) -> int:
    """How many values to leave off at each end: those ranks that the median is beyond with less than 2.5 %.

    A value lies below the true median with probability 1/2, so ranks are binomial; no distribution is assumed.
    """
    cut, term, below = 0, 0.5**count, 0.5**count
    while below <= _TAIL:
        cut += 1
        term *= (count - cut + 1) / cut
        below += term
    return max(0, cut - 1)
