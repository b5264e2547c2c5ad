"""The metrics whose values the service holds anyway; they are read when Prometheus asks, and cost nothing otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from container_manager.model import ContainerState
from container_manager.observability.accounting import Method
from container_manager.observability.bot_runs import BotRuns
from container_manager.scheduling.starts import Starts
from container_manager.scheduling.streams import Streams
from container_manager.stats.disk import DiskUses
from container_manager.view.keeper import ViewKeeper

_PREFIX = "container_manager"


class SpanCounts(Protocol):
    """What became of the spans."""

    @property
    def exported(self) -> int:
        """Those that the collector has taken."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Those that were lost, by reason."""


class StateCollector(Collector):
    """Collects on the event loop, to which the state belongs."""

    def __init__(
        self,
        methods: Iterable[Method],
        keeper: ViewKeeper,
        streams: Streams,
        disk: DiskUses,
        starts: Starts,
        *,
        spans: SpanCounts | None,
        runs: BotRuns,
    ) -> None:
        """``spans``: ``None`` without tracing."""
        self._methods = methods
        self._keeper = keeper
        self._streams = streams
        self._disk = disk
        self._starts = starts
        self._spans = spans
        self._runs = runs

    def describe(self) -> Iterable[Metric]:
        """Nothing: no other collector uses these names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield self._in_flight()
        view = self._keeper.view
        yield _gauge("view_containers", "Managed containers in the view.", len(view))
        yield self._bots()
        yield self._exits()
        yield _counter("bot_restarts", "Restarts of bots by the engine's restart policy.", self._runs.restarts)
        yield _gauge("view_in_sync", "1 while the view answers reads, 0 while the engine does.", view.in_sync)
        yield _counter("view_drift", "Differences that the audit found in the view; each is a bug.", view.drift)
        yield _counter("event_reconnects", "New subscriptions to the engine's events.", self._keeper.reconnects)
        yield self._open_streams()
        uses = self._disk.newest().values()
        state, layers = (sum(size or 0 for size in sizes) for sizes in zip(*uses, strict=True)) if uses else (0, 0)
        yield _gauge("state_bytes", "What the state directories of all bots occupy on the disk.", state)
        yield _gauge("layer_bytes", "What all containers have written outside their mounts.", layers)
        yield _gauge("starts_waiting", "Starts and restarts that wait for --start-concurrency.", self._starts.waiting)
        if self._spans is not None:
            yield _counter("spans_exported", "Spans that the collector has taken.", self._spans.exported)
            yield _dropped(self._spans)

    def _in_flight(self) -> Metric:
        family = GaugeMetricFamily(f"{_PREFIX}_rpcs_in_flight", "Calls under way.", labels=("service", "method"))
        for method in self._methods:
            family.add_metric((method.service, method.method), method.in_flight)
        return family

    def _bots(self) -> Metric:
        """At 5,000 bots, counting takes about a millisecond."""
        family = GaugeMetricFamily(f"{_PREFIX}_bots", "Bots' containers, by state.", labels=("state",))
        counts = Counter(entry.status.state for entry in self._keeper.view.entries())
        for state in ContainerState:
            family.add_metric((state.name,), counts[state])
        return family

    def _exits(self) -> Metric:
        family = CounterMetricFamily(f"{_PREFIX}_bot_exits", "Ended runs of bots, by reason.", labels=("reason",))
        for reason, count in self._runs.exits.items():
            family.add_metric((reason,), count)
        return family

    def _open_streams(self) -> Metric:
        family = GaugeMetricFamily(f"{_PREFIX}_streams_open", "Open streams.", labels=("kind",))
        for label, count in self._streams.counts().items():
            family.add_metric((label,), count)
        return family


def _dropped(spans: SpanCounts) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_spans_dropped", "Spans that were lost.", labels=("reason",))
    for reason, count in spans.dropped.items():
        family.add_metric((reason,), count)
    return family


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", what, value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", what, value)
