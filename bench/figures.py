"""Percentiles, and ratios with their confidence intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

_RESAMPLES = 1000

Statistic = Callable[[Sequence[float]], float]


class Ratio(NamedTuple):
    """How many times as large one figure is as another."""

    value: float
    low: float
    """The lower end of the 95 % confidence interval."""
    high: float

    def __str__(self) -> str:
        return f"{three(self.value)} [{three(self.low)}, {three(self.high)}]"


def ratio(
    values: Sequence[float],
    base: Sequence[float],
    *,
    of: Statistic = median,
    of_base: Statistic = median,
    paired: bool = True,
) -> Ratio:
    """``of(values)`` divided by ``of_base(base)``, with a percentile bootstrap interval of 95 %.

    ``paired``: the n-th values were measured in the same round, so rounds are resampled as a whole, and what made a
    round slow for both cancels out. Otherwise each series is resampled by itself.
    """
    if paired and len(values) != len(base):
        raise ValueError(f"{len(values)} values cannot be paired with {len(base)}")
    draw = random.Random(1)
    ratios = []
    for _ in range(_RESAMPLES):
        rounds = draw.choices(range(len(values)), k=len(values))
        base_rounds = rounds if paired else draw.choices(range(len(base)), k=len(base))
        ratios.append(of([values[number] for number in rounds]) / of_base([base[number] for number in base_rounds]))
    ratios.sort()
    tail = _RESAMPLES // 40
    return Ratio(of(values) / of_base(base), ratios[tail], ratios[-1 - tail])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return percentile(values, 99)


def ms(seconds: float) -> str:
    """Seconds, written in milliseconds."""
    return three(seconds * 1000)


def three(value: float) -> str:
    """A number with about three digits."""
    if abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
