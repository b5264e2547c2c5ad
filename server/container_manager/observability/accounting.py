"""What becomes of each call: a line in the log, a count in the metrics, a span in its trace; after its answer.

A call's own way has no more in it than :meth:`Accounting.begin` and :meth:`Accounting.end`. The rest is done in the
loop's next round, when gRPC has taken the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, NamedTuple, Protocol

import structlog

from container_manager.observability.call import Call, request_id_of
from container_manager.observability.spans import CallSpan
from container_manager.observability.trace_context import TraceContext
from container_manager.validation import is_bot_id

OTHER = "/other/other"
"""Stands for all methods that do not exist: their names are their callers' invention."""

_CODE_OK = "OK"
# Asked every second by probes and interceptors of load balancers; of no interest one by one.
_QUIET_PREFIX = "/grpc.health.v1.Health/"

_log = structlog.get_logger(__name__)
_level = logging.getLogger(__name__)

Metadata = Iterable[tuple[str, str | bytes]]


class Series(Protocol):
    """Takes durations, in seconds."""

    def observe(self, seconds: float, /) -> None:
        """One more."""


class Histogram(Protocol):
    """A histogram by service, method and code."""

    def labels(self, service: str, method: str, code: str, /) -> Series:
        """The series with these labels."""


class Method:
    """One RPC, and its calls that are under way."""

    __slots__ = ("durations", "in_flight", "method", "name", "quiet", "read", "service")

    def __init__(self, name: str, *, read: bool = False) -> None:
        """``name``: as gRPC writes it, ``/service/Method``."""
        self.name = name
        self.service, _, self.method = name.removeprefix("/").rpartition("/")
        self.read = read
        """Answered from memory, in less time than a line takes: its successes are logged at level debug."""
        self.quiet = name.startswith(_QUIET_PREFIX)
        """Counted, and neither logged nor traced."""
        self.in_flight = 0
        self.durations: dict[str, Series] = {}
        """By code; looked up once."""


class _Ended(NamedTuple):
    """A call that has ended."""

    method: Method
    call: Call
    request: Any
    code: str
    seconds: float

    @property
    def bot_id(self) -> str:
        """Empty: it names none, or none that could be one."""
        bot_id = getattr(self.request, "bot_id", "")
        return bot_id if is_bot_id(bot_id) else ""


class Accounting:
    """The calls of one service, on one event loop."""

    def __init__(
        self,
        methods: Iterable[str],
        reads: Iterable[str],
        *,
        durations: Histogram | None = None,
        tell_span: Callable[[CallSpan], Any] | None = None,
    ) -> None:
        """``durations`` has the labels service, method and code; ``tell_span`` is told of each call that is traced."""
        cheap = set(reads)
        self.methods = {name: Method(name, read=name in cheap) for name in methods}
        self._other = self.methods[OTHER] = Method(OTHER)
        self._durations = durations
        self._tell_span = tell_span
        self._ended: list[_Ended] = []
        # The accounting is no call's own work, whichever call has it done.
        self._context = Context()

    def method(self, name: str) -> Method:
        """The RPC of that name; one for all that do not exist."""
        return self.methods.get(name, self._other)

    def begin(self, method: Method, metadata: Metadata) -> Call:
        """A call has come."""
        method.in_flight += 1
        traced = self._tell_span is not None and not method.quiet
        trace = TraceContext.of_call(metadata) if traced else None
        return Call(request_id_of(metadata), trace, time.time_ns(), time.perf_counter())

    def end(self, method: Method, call: Call, request: Any, code: str) -> None:
        """It has ended with the status code of that name; its answer is yet to be sent."""
        method.in_flight -= 1
        # Whoever ended before has seen to it.
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.settle, context=self._context)
        self._ended.append(_Ended(method, call, request, code, time.perf_counter() - call.begun))

    def settle(self) -> None:
        """Account for every call that has ended, now."""
        ended, self._ended = self._ended, []
        for each in ended:
            if self._durations is not None:
                _count(self._durations, each)
            if each.method.quiet:
                continue
            _log_call(each)
            if each.call.trace is not None and self._tell_span is not None:
                self._tell_span(_span(each, each.call.trace))


def _count(durations: Histogram, ended: _Ended) -> None:
    method = ended.method
    series = method.durations.get(ended.code)
    if series is None:
        series = method.durations[ended.code] = durations.labels(method.service, method.method, ended.code)
    series.observe(ended.seconds)


def _log_call(ended: _Ended) -> None:
    """Never its content, which may be personal or secret."""
    level = logging.DEBUG if ended.method.read and ended.code == _CODE_OK else logging.INFO
    # Asked beforehand: most lines are those that nobody wants.
    if not _level.isEnabledFor(level):
        return
    call = ended.call
    _log.log(
        level,
        "call",
        method=ended.method.name,
        bot_id=ended.bot_id,
        code=ended.code,
        duration_ms=round(ended.seconds * 1000, 2),
        request_id=call.request_id,
        **({} if call.trace is None else {"trace_id": f"{call.trace.trace_id:032x}"}),
    )


def _span(ended: _Ended, trace: TraceContext) -> CallSpan:
    method, call = ended.method, ended.call
    ended_ns = call.begun_ns + int(ended.seconds * 1e9)
    return CallSpan(
        trace, method.service, method.method, ended.code, ended.bot_id, call.request_id, call.begun_ns, ended_ns
    )
