"""Durations of calls, counted for a tenth of what prometheus_client's own histogram takes, which has locks.

On one event loop: they are observed and collected there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LABELS = ("service", "method", "code")


class Durations:
    """One series."""

    __slots__ = ("_buckets", "_sum")

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def collected(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative buckets by their bound, as Prometheus writes them, and the sum."""
        bounds = [*map(floatToGoString, BUCKETS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._buckets)), strict=True)), self._sum


class RpcDurations(Collector):
    """All series, by service, method and code."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str], Durations] = {}

    def labels(self, service: str, method: str, code: str) -> Durations:
        """The series with these labels; to be kept by who uses it often."""
        return self._series.setdefault((service, method, code), Durations())

    def describe(self) -> Iterable[Metric]:
        """Its name, without a series."""
        return (self._family(),)

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for labels, series in self._series.items():
            buckets, total = series.collected()
            family.add_metric(labels, buckets, total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(
            "container_manager_rpc_duration_seconds",
            "Time from a call's begin to its answer; of a stream, to its end.",
            labels=_LABELS,
        )
