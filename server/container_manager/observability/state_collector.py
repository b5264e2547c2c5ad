"""The metrics that are read from the service when somebody asks for them, and cost nothing otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from container_manager.observability.accounting import Method
from container_manager.scheduling.streams import Streams
from container_manager.view.keeper import ViewKeeper

_PREFIX = "container_manager"


class SpanCounts(Protocol):
    """What has become of spans."""

    exported: int
    dropped: Counter[str]
    """By the reason."""


class StateCollector(Collector):
    """Collects on the event loop, where all of this lives."""

    def __init__(
        self, methods: Iterable[Method], keeper: ViewKeeper, streams: Streams, spans: SpanCounts | None
    ) -> None:
        """``spans``: ``None`` without tracing."""
        self._methods = methods
        self._keeper = keeper
        self._streams = streams
        self._spans = spans

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are no others' for certain."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self._in_flight()
        view = self._keeper.view
        yield _gauge("view_containers", "Managed containers that the view knows.", len(view))
        yield _gauge("view_in_sync", "1 while the view answers, 0 while the engine itself is asked.", view.in_sync)
        yield _counter("view_drift", "How often the audit found the view wrong; each is a bug.", view.drift)
        yield _counter(
            "event_reconnects", "How often the engine's events were subscribed to again.", self._keeper.reconnects
        )
        yield self._open_streams()
        if self._spans is not None:
            yield _counter("spans_exported", "Spans that the collector has taken.", self._spans.exported)
            yield _dropped(self._spans)

    def _in_flight(self) -> Metric:
        family = GaugeMetricFamily(
            f"{_PREFIX}_rpcs_in_flight", "Calls that have not ended.", labels=("service", "method")
        )
        for method in self._methods:
            family.add_metric((method.service, method.method), method.in_flight)
        return family

    def _open_streams(self) -> Metric:
        family = GaugeMetricFamily(f"{_PREFIX}_streams_open", "Streams that have a place.", labels=("kind",))
        for label, count in self._streams.counts().items():
            family.add_metric((label,), count)
        return family


def _dropped(spans: SpanCounts) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_spans_dropped", "Spans that nobody will see.", labels=("reason",))
    for reason, count in spans.dropped.items():
        family.add_metric((reason,), count)
    return family


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", what, value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", what, value)
