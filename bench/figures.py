"""Percentiles, and ratios with their confidence intervals, each a percentile bootstrap of 95 %."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

_RESAMPLES = 1000
# The part of all ratios that is left out at each end: a round in which the machine did something else says nothing.
_TRIMMED = 0.2

Statistic = Callable[[Sequence[float]], float]


class Ratio(NamedTuple):
    """How many times as large one figure is as another."""

    value: float
    low: float
    """The lower end of the 95 % confidence interval."""
    high: float

    def __str__(self) -> str:
        return f"{three(self.value)} [{three(self.low)}, {three(self.high)}]"


def ratio(values: Sequence[float], base: Sequence[float]) -> Ratio:
    """How many times as long the one took as the other, where the n-th values are of the same round.

    It is the geometric mean of the rounds' ratios, without the highest and the lowest fifth: what made a round slow for
    both cancels out, so its interval is narrower than that of a ratio of medians.
    """
    logarithms = [math.log(value / other) for value, other in zip(values, base, strict=True)]
    draw = random.Random(1)
    means = sorted(_middle(draw.choices(logarithms, k=len(logarithms))) for _ in range(_resamples(values)))
    return Ratio(*(math.exp(mean) for mean in (_middle(logarithms), *_interval(means))))


def ratio_of(values: Sequence[float], base: Sequence[float], of: Statistic, of_base: Statistic) -> Ratio:
    """``of(values)`` divided by ``of_base(base)``, where the series have nothing to do with each other."""
    draw = random.Random(1)
    ratios = sorted(
        of(draw.choices(values, k=len(values))) / of_base(draw.choices(base, k=len(base)))
        for _ in range(_resamples(values))
    )
    return Ratio(of(values) / of_base(base), *_interval(ratios))


def _resamples(values: Sequence[float]) -> int:
    """Fewer values have no more different resamples than this."""
    return min(_RESAMPLES, int(len(values) ** min(len(values), 5)))


def _interval(ranked: Sequence[float]) -> tuple[float, float]:
    tail = len(ranked) // 40
    return ranked[tail], ranked[-1 - tail]


def _middle(values: Sequence[float]) -> float:
    cut = int(len(values) * _TRIMMED)
    return fmean(sorted(values)[cut : len(values) - cut])


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
