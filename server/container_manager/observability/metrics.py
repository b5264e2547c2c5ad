"""The Prometheus metrics that are counted as things happen. ``docs/observability.md`` describes each of them."""

from __future__ import annotations

import platform
from importlib.metadata import version

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram

from container_manager.observability.process_metrics import ProcessMetrics
from container_manager.observability.rpc_durations import BUCKETS, RpcDurations

_PREFIX = "container_manager"
_ENGINE_BUCKETS = BUCKETS[1:]
_LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One service's metrics, in a registry of their own. All but the durations of calls may be told from any thread."""

    def __init__(self) -> None:
        # When a series was created is of no use here, and would double their number.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.rpc_seconds = RpcDurations()
        self.registry.register(self.rpc_seconds)
        self._engine_seconds = Histogram(
            f"{_PREFIX}_engine_call_duration_seconds",
            "Time of a call to the engine; of a stream, until it begins.",
            ("operation", "outcome"),
            registry=self.registry,
            buckets=_ENGINE_BUCKETS,
        )
        self._event_lag_seconds = Histogram(
            f"{_PREFIX}_event_lag_seconds",
            "Time from an event at the engine until the view shows what it has changed.",
            registry=self.registry,
            buckets=_LAG_BUCKETS,
        )
        build = Gauge(
            f"{_PREFIX}_build_info",
            "Always 1; the labels tell the versions.",
            ("version", "python", "grpc"),
            registry=self.registry,
        )
        build.labels(version("botmaker-container-manager"), platform.python_version(), version("grpcio")).set(1)
        self.registry.register(ProcessMetrics())

    def engine_call(self, operation: str, outcome: str, seconds: float) -> None:
        """A call to the engine has ended."""
        self._engine_seconds.labels(operation, outcome).observe(seconds)

    def event_lag(self, seconds: float) -> None:
        """The view has caught up with an event that is so old."""
        self._event_lag_seconds.observe(seconds)
