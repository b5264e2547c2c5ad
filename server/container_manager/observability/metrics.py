"""The Prometheus metrics of the service and its process. ``docs/observability.md`` describes each of them."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import grpc
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import container_manager
from container_manager.backend import CALL_OUTCOMES, PULL
from container_manager.observability.accounting import Method

_PREFIX = "container_manager"
_RPC_LABELS = ("service", "method", "code")
_ENGINE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_READY_OUTCOMES = {True: "ready", False: "not_ready"}
_RPC_BUCKETS = (0.0005, *_ENGINE_BUCKETS)
# A start holds its place for 120 s at most.
_READY_BUCKETS = (1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120)
_LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One service's metrics, in a registry of their own. Usable from any thread."""

    def __init__(self) -> None:
        # The time when a series was created is of no use here, and would double the number of series.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._rpcs = Counter(
            f"{_PREFIX}_rpcs", "Calls that have ended, by status code.", _RPC_LABELS, registry=self.registry
        )
        self._rpc_seconds = Histogram(
            f"{_PREFIX}_rpc_duration_seconds",
            "Time from the start of a call to its answer; for a stream, to its end.",
            _RPC_LABELS,
            registry=self.registry,
            buckets=_RPC_BUCKETS,
        )
        self._engine_seconds = Histogram(
            f"{_PREFIX}_engine_call_duration_seconds",
            "Time of a call to the engine; for a stream, until it starts.",
            ("operation", "outcome"),
            registry=self.registry,
            buckets=_ENGINE_BUCKETS,
        )
        self._engine_calls = Counter(
            f"{_PREFIX}_engine_calls", "Calls to the engine that have ended.", ("outcome",), registry=self.registry
        )
        self._pulls = Counter(
            f"{_PREFIX}_pulls", "Pulls of images that have ended.", ("outcome",), registry=self.registry
        )
        for outcome in CALL_OUTCOMES:
            # Exposed as 0: see create_rpc_counters.
            self._engine_calls.labels(outcome)
            self._pulls.labels(outcome)
        self._ready_seconds = Histogram(
            f"{_PREFIX}_bot_ready_seconds",
            "Time from the start of a bot until it was ready, or was found not to be.",
            ("outcome",),
            registry=self.registry,
            buckets=_READY_BUCKETS,
        )
        for outcome in _READY_OUTCOMES.values():
            self._ready_seconds.labels(outcome)
        self._event_lag_seconds = Histogram(
            f"{_PREFIX}_event_lag_seconds",
            "Time from an event at the engine until the view reflects it.",
            registry=self.registry,
            buckets=_LAG_BUCKETS,
        )
        self._loop_lag_seconds = Histogram(
            f"{_PREFIX}_event_loop_lag_seconds",
            "How late a timer of the event loop was, ten times a second.",
            registry=self.registry,
            buckets=_LAG_BUCKETS,
        )
        build = Gauge(
            f"{_PREFIX}_build_info",
            "Always 1; the labels hold the versions.",
            ("version", "python", "grpc"),
            registry=self.registry,
        )
        build.labels(container_manager.__version__, platform.python_version(), version("grpcio")).set(1)
        self.registry.register(ProcessMetrics())

    def create_rpc_counters(self, methods: Iterable[Method]) -> None:
        """Expose a 0 for every method and code.

        Prometheus' ``increase()`` does not see the first error of a counter that appears with it.
        """
        for method in methods:
            for code in grpc.StatusCode:
                self._rpcs.labels(method.service, method.method, code.name)

    def rpc_series(self, service: str, method: str, code: str) -> RpcSeries:
        """The calls of a method that ended with a code; look it up once."""
        labels = (service, method, code)
        return RpcSeries(self._rpcs.labels(*labels), self._rpc_seconds.labels(*labels))

    def engine_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Record a call to the engine."""
        self._engine_seconds.labels(operation, outcome).observe(seconds)
        self._engine_calls.labels(outcome).inc()
        if operation == PULL:
            self._pulls.labels(outcome).inc()

    def bot_start(self, seconds: float, ready: bool) -> None:
        """Record how long a bot took to be ready after its start, or not to be."""
        self._ready_seconds.labels(_READY_OUTCOMES[ready]).observe(seconds)

    def event_lag(self, seconds: float) -> None:
        """Record the age of an event when the view reflects it."""
        self._event_lag_seconds.observe(seconds)

    def loop_lag(self, seconds: float) -> None:
        """Record how late the event loop was."""
        self._loop_lag_seconds.observe(seconds)


class RpcSeries:
    """The calls of one method that ended with one code."""

    __slots__ = ("_calls", "_seconds")

    def __init__(self, calls: Counter, seconds: Histogram) -> None:
        self._calls = calls
        self._seconds = seconds

    def observe(self, seconds: float) -> None:
        """Count a call that took ``seconds``."""
        self._calls.inc()
        self._seconds.observe(seconds)


class ProcessMetrics(Collector):
    """The metrics of this process, under the names that every Prometheus client uses.

    prometheus_client's own collector reads the machine's start from ``/proc/stat``, and collects nothing where
    ``/proc`` shows processes only, as with systemd's ``ProcSubset=pid``. Create this one at the start of the process.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """``proc``: where the kernel shows processes."""
        self._own = proc / "self"
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """The current values, without those that cannot be read."""
        times = os.times()
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of the service.", times.user + times.system)
        yield GaugeMetricFamily("process_start_time_seconds", "Start of the service.", self._started)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = float("inf") if limit == resource.RLIM_INFINITY else limit
        yield GaugeMetricFamily("process_max_fds", "The most file descriptors that the service may open.", most)
        with suppress(OSError):
            pages = (self._own / "statm").read_text().split()
            size, resident = (int(count) * resource.getpagesize() for count in pages[:2])
            yield GaugeMetricFamily("process_virtual_memory_bytes", "Address space of the service.", size)
            yield GaugeMetricFamily("process_resident_memory_bytes", "Memory of the service.", resident)
        with suppress(OSError):
            opened = sum(1 for _ in (self._own / "fd").iterdir())
            yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", opened)
