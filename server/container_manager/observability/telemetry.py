"""The log, metrics and traces of one service, as configured: the log always, the others if asked for.

What metrics and traces need is imported only then.
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
from container_manager.observability.audit_log import AuditLog
from container_manager.observability.audit_writer import AuditWriter
from container_manager.observability.call import current_call
from container_manager.observability.loop_lag import LoopLag
from container_manager.scheduling.starts import Starts
from container_manager.scheduling.streams import Streams
from container_manager.stats.disk import DiskUses
from container_manager.view.keeper import ViewKeeper

if TYPE_CHECKING:
    from container_manager.observability.metrics import Metrics
    from container_manager.observability.metrics_endpoint import MetricsEndpoint
    from container_manager.observability.tracing import Tracing

_LAST_SECONDS = 2.0
_LAST_LINES_SECONDS = 0.1
"""At least: what waits for the audit log is written in a moment, unless its disk hangs."""

_log = structlog.get_logger(__name__)


class Telemetry:
    """Of one service. Call :meth:`start` and :meth:`stop` once each, on its event loop."""

    def __init__(
        self, config: ServerConfig, methods: Iterable[str], reads: Iterable[str], changes: Iterable[str] = ()
    ) -> None:
        """``methods``: the names of all RPCs; ``reads``: those answered from memory; ``changes``: those to be audited.

        Raises :class:`StartupError` for an option that cannot be followed.
        """
        self._metrics: Metrics | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._loop_lag: LoopLag | None = None
        if config.metrics_listen is not None:
            from container_manager.observability.metrics import Metrics
            from container_manager.observability.metrics_endpoint import MetricsEndpoint, metrics_address

            address = metrics_address(config.metrics_listen)
            self._metrics = Metrics()
            self._endpoint = MetricsEndpoint(address, self._metrics.registry, self._settle)
            self._loop_lag = LoopLag(self._metrics.loop_lag)
        self._tracing = None if config.tracing is None else _tracing(config.tracing)
        self._audit = None if config.audit_log is None else AuditWriter(AuditLog(config.audit_log))
        self.accounting = Accounting(
            methods,
            reads,
            changes=changes,
            audit=None if self._audit is None else self._audit.write,
            series=None if self._metrics is None else self._metrics.rpc_series,
            start_trace=None if self._tracing is None else self._tracing.start_call,
        )
        if self._metrics is not None:
            self._metrics.create_rpc_counters(self.accounting.methods.values())
        self.metrics_url = ""
        """Where metrics are served, with the real port; empty if nowhere, and before the start."""

    @property
    def engine_observer(self) -> CallObserver | None:
        """Records calls to the engine; ``None`` if neither metrics nor traces are on."""
        return self._engine_call if self._metrics is not None or self._tracing is not None else None

    @property
    def on_event_lag(self) -> Callable[[float], None] | None:
        """Records the age of an engine event, in seconds, once the view reflects it; ``None`` without metrics."""
        return None if self._metrics is None else self._metrics.event_lag

    @property
    def on_ready(self) -> Callable[[float, bool], None] | None:
        """Records how many seconds a bot took to be ready after its start, or not to be; ``None`` without metrics."""
        return None if self._metrics is None else self._metrics.bot_start

    def watch(self, keeper: ViewKeeper, streams: Streams, disk: DiskUses, starts: Starts) -> None:
        """Add the metrics of the view, the streams, the disk and the starts. Call it once."""
        if self._metrics is None:
            return
        from container_manager.observability.bot_runs import BotRuns
        from container_manager.observability.state_collector import StateCollector

        methods = self.accounting.methods.values()
        runs = BotRuns()
        keeper.view.add_listener(runs)
        self._metrics.registry.register(
            StateCollector(methods, keeper, streams, disk, starts, spans=self._tracing, runs=runs)
        )

    async def start(self) -> None:
        """Serve metrics and send spans. Raises :class:`StartupError`, and then does neither."""
        if self._endpoint is not None:
            self.metrics_url = await self._endpoint.start()
            _log.info("metrics are served", url=self.metrics_url)
        if self._loop_lag is not None:
            self._loop_lag.start()
        if self._tracing is not None:
            self._tracing.start()
        if self._audit is not None:
            self._audit.start()

    async def stop(self, seconds: float) -> None:
        """Stop, after sending the queued spans and writing the audit log for at most ``seconds``, and two in all."""
        clock = asyncio.get_running_loop().time
        end = clock() + min(seconds, _LAST_SECONDS)
        self.accounting.settle()
        if self._loop_lag is not None:
            self._loop_lag.stop()
        if self._tracing is not None:
            await self._tracing.stop(end - clock())
        if self._endpoint is not None:
            await self._endpoint.close()
        # A call that a worker still carries out ends with the process.
        if self._audit is not None:
            await asyncio.to_thread(self._audit.close, max(_LAST_LINES_SECONDS, end - clock()))

    def _settle(self) -> None:
        self.accounting.settle()

    def _engine_call(self, operation: str, outcome: str, started_ns: int, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.engine_call(operation, outcome, seconds)
        call = current_call.get()
        if call is not None and call.trace is not None:
            call.trace.engine_call(operation, outcome, started_ns, started_ns + int(seconds * 1e9))


def _tracing(config: TracingConfig) -> Tracing | None:
    """``None``, after a warning, if the machine's settings cannot be used."""
    from container_manager.observability.otlp_target import otlp_target

    try:
        target = otlp_target(config)
        from container_manager.observability.tracing import Tracing

        return Tracing(target)
    except StartupError as exc:
        problem = exc
    except Exception as exc:  # noqa: BLE001 - OpenTelemetry has several for its variables
        problem = StartupError(f"{config.source}: OpenTelemetry does not start: {exc}")
    if config.required:
        raise problem
    _log.warning("no traces are sent", problem=str(problem))
    return None
