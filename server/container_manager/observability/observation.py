"""All that is told of a service beside its answers, as it was asked for: the log always, metrics and traces if wanted.

What metrics and traces need is loaded when they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from container_manager.backend import CallObserver
from container_manager.config import ServerConfig, TracingConfig
from container_manager.errors import StartupError
from container_manager.observability.accounting import Accounting
from container_manager.observability.call import current_call
from container_manager.observability.spans import EngineSpan
from container_manager.observability.trace_context import new_span_id
from container_manager.scheduling.streams import Streams
from container_manager.view.keeper import ViewKeeper

if TYPE_CHECKING:
    from container_manager.observability.metrics import Metrics
    from container_manager.observability.metrics_endpoint import MetricsEndpoint
    from container_manager.observability.span_exporter import SpanExporter

_LAST_SPANS_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Observation:
    """Of one service. :meth:`start` and :meth:`stop` once each, on its event loop."""

    def __init__(self, config: ServerConfig, methods: Iterable[str], reads: Iterable[str]) -> None:
        """``methods``: the names of all RPCs; ``reads``: of those whose successes are not worth a line.

        Raises :class:`StartupError` for what cannot be as asked for.
        """
        self._metrics: Metrics | None = None
        self._endpoint: MetricsEndpoint | None = None
        if config.metrics_listen is not None:
            from container_manager.observability.metrics import Metrics
            from container_manager.observability.metrics_endpoint import MetricsEndpoint, metrics_address

            address = metrics_address(config.metrics_listen)
            self._metrics = Metrics()
            self._endpoint = MetricsEndpoint(address, self._metrics.registry, self._settle)
        self._exporter = None if config.tracing is None else _exporter(config.tracing)
        self.accounting = Accounting(
            methods,
            reads,
            durations=None if self._metrics is None else self._metrics.rpc_seconds,
            tell_span=None if self._exporter is None else self._exporter.add,
        )
        self.metrics_url = ""
        """Where metrics are served, with the real port; empty: nowhere, or not started."""

    @property
    def engine_observer(self) -> CallObserver | None:
        """Who is to be told of calls to the engine."""
        return self._engine_call if self._metrics is not None or self._exporter is not None else None

    @property
    def on_event_lag(self) -> Callable[[float], None] | None:
        """Who is to be told how old an event was, in seconds, when the view has caught up with it."""
        return None if self._metrics is None else self._metrics.event_lag

    def watch(self, keeper: ViewKeeper, streams: Streams) -> None:
        """Have these in the metrics as well. Once."""
        if self._metrics is None:
            return
        from container_manager.observability.state_collector import StateCollector

        methods = self.accounting.methods.values()
        self._metrics.registry.register(StateCollector(methods, keeper, streams, self._exporter))

    async def start(self) -> None:
        """Serve metrics, send spans. Raises :class:`StartupError`, and then does neither."""
        if self._endpoint is not None:
            self.metrics_url = await self._endpoint.start()
            _log.info("metrics are served", url=self.metrics_url)
        if self._exporter is not None:
            self._exporter.start()

    async def stop(self, seconds: float) -> None:
        """Do so no more; what waits to be sent may take so many seconds, and never more than two."""
        self.accounting.settle()
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.close, min(seconds, _LAST_SPANS_SECONDS))
        if self._endpoint is not None:
            await self._endpoint.close()

    def _settle(self) -> None:
        self.accounting.settle()

    def _engine_call(self, operation: str, outcome: str, begun_ns: int, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.engine_call(operation, outcome, seconds)
        if self._exporter is not None and (call := current_call.get()) is not None and call.trace is not None:
            ended_ns = begun_ns + int(seconds * 1e9)
            self._exporter.add(EngineSpan(call.trace, new_span_id(), operation, outcome, begun_ns, ended_ns))


def _exporter(config: TracingConfig) -> SpanExporter | None:
    """``None``: the machine's settings cannot be used, which is told."""
    from container_manager.observability.otlp_target import otlp_target

    try:
        target = otlp_target(config)
    except StartupError as exc:
        if config.required:
            raise
        _log.warning("no traces are sent", problem=str(exc))
        return None
    from container_manager.observability.span_encoding import SpanEncoder
    from container_manager.observability.span_exporter import SpanExporter

    return SpanExporter(target, SpanEncoder())
