"""Records each call: a line in the log, a count and a duration in the metrics, a span in its trace.

While a call runs, only :meth:`Accounting.begin` and :meth:`Accounting.end` take its time. Everything else happens in
the event loop's next iteration, after gRPC has taken the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import structlog

from container_manager.errors import UnauthenticatedError
from container_manager.observability.call import Call, Caller, CallTrace, Metadata, request_id_of
from container_manager.validation import is_bot_id

OTHER = "/other/other"
"""Stands for all methods that do not exist, since callers choose those names."""

_CODE_OK = "OK"
# Load balancers and probes call it every second; single calls are of no interest.
_QUIET_PREFIX = "/grpc.health.v1.Health/"

_log = structlog.get_logger(__name__)
_level = logging.getLogger(__name__)


class Series(Protocol):
    """The calls of one method that ended with one code."""

    def observe(self, seconds: float, /) -> None:
        """Count a call that took ``seconds``."""


StartTrace = Callable[["Method", Metadata, int], CallTrace]
"""Takes the method, the caller's metadata, and the start in nanoseconds of the wall clock."""


class Method:
    """One RPC, and the number of its calls under way."""

    __slots__ = ("audited", "in_flight", "method", "name", "quiet", "read", "series", "service")

    def __init__(self, name: str, *, read: bool = False, audited: bool = False) -> None:
        """``name``: as gRPC writes it, ``/service/Method``."""
        self.name = name
        self.service, _, self.method = name.removeprefix("/").rpartition("/")
        self.read = read
        """Changes nothing, and is no stream. A success is logged at level debug, and traced in its caller's trace."""
        self.audited = audited
        """Each call has a line in the audit log, unless it comes without the listener's token."""
        self.quiet = name.startswith(_QUIET_PREFIX)
        """Counted, but neither logged nor traced."""
        self.in_flight = 0
        self.series: dict[str, Series] = {}
        """By code; each looked up once."""


class _Ended(NamedTuple):
    """A call that has ended."""

    method: Method
    call: Call
    code: str
    seconds: float

    @property
    def bot_id(self) -> str:
        """Empty unless the request has a valid one."""
        return self.call.bot_id if is_bot_id(self.call.bot_id) else ""

    @property
    def has_no_token(self) -> bool:
        """Whoever can connect can make any number of these. Its code is CANCELLED if the caller has gone."""
        return self.call.reason == UnauthenticatedError.reason


class Accounting:
    """The calls of one service, on one event loop."""

    def __init__(
        self,
        methods: Iterable[str],
        reads: Iterable[str],
        *,
        series: Callable[[str, str, str], Series] | None = None,
        start_trace: StartTrace | None = None,
        changes: Iterable[str] = (),
        audit: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        """``series`` returns the metrics for a service, a method and a code.

        ``audit`` receives an entry for each call of the methods in ``changes`` that its listener has let in.
        """
        cheap, audited = set(reads), set(changes) if audit is not None else set()
        self.methods = {name: Method(name, read=name in cheap, audited=name in audited) for name in methods}
        self._audit = audit
        self._other = self.methods[OTHER] = Method(OTHER)
        self._series = series
        self._start_trace = start_trace
        self._ended: list[_Ended] = []
        # The accounting must not inherit the context of the call that schedules it.
        self._context = Context()

    def method(self, name: str) -> Method:
        """The RPC of that name, or :data:`OTHER` if there is none."""
        return self.methods.get(name, self._other)

    def begin(self, method: Method, metadata: Metadata) -> Call:
        """Record the start of a call."""
        method.in_flight += 1
        started_ns = time.time_ns()
        trace = None
        if self._start_trace is not None and not method.quiet:
            trace = self._start_trace(method, metadata, started_ns)
        return Call(request_id_of(metadata), trace, started_ns, time.perf_counter())

    def end(self, method: Method, call: Call, code: str) -> None:
        """Record the end of a call, with the name of its status code; its answer is still to be sent."""
        method.in_flight -= 1
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.settle, context=self._context)
        self._ended.append(_Ended(method, call, code, time.perf_counter() - call.started))

    def settle(self) -> None:
        """Record everything about the calls that have ended so far."""
        ended, self._ended = self._ended, []
        for each in ended:
            if self._series is not None:
                _count(self._series, each)
            if each.method.quiet:
                continue
            if each.call.trace is not None:
                ended_ns = each.call.started_ns + int(each.seconds * 1e9)
                each.call.trace.end(each.code, each.bot_id, each.call.request_id, ended_ns)
            _log_call(each)
            if self._audit is not None and each.call.caller is not None and not each.has_no_token:
                self._audit(_audit_entry(each, each.call.caller))


def _count(series_of: Callable[[str, str, str], Series], ended: _Ended) -> None:
    method = ended.method
    series = method.series.get(ended.code)
    if series is None:
        series = method.series[ended.code] = series_of(method.service, method.method, ended.code)
    series.observe(ended.seconds)


def _audit_entry(ended: _Ended, caller: Caller) -> dict[str, object]:
    return {
        "time": datetime.fromtimestamp(ended.call.started_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
        "method": ended.method.name,
        "bot_id": ended.bot_id,
        **({"action": ended.call.action} if ended.call.action else {}),
        "code": ended.code,
        "reason": ended.call.reason,
        "duration_ms": round(ended.seconds * 1000, 3),
        "listener": caller.listener,
        "peer": caller.peer,
        "certificate_subject": caller.certificate_subject,
        "token": caller.token,
        "request_id": ended.call.request_id,
    }


def _log_call(ended: _Ended) -> None:
    """Log the call, without its content, which may be personal or secret."""
    quiet = ended.has_no_token or (ended.method.read and ended.code == _CODE_OK)
    level = logging.DEBUG if quiet else logging.INFO
    # Checked first, because most calls are reads, whose lines are usually off.
    if not _level.isEnabledFor(level):
        return
    call = ended.call
    trace_id = call.trace.trace_id if call.trace is not None else ""
    _log.log(
        level,
        "call",
        method=ended.method.name,
        bot_id=ended.bot_id,
        code=ended.code,
        duration_ms=round(ended.seconds * 1000, 2),
        request_id=call.request_id,
        **({"trace_id": trace_id} if trace_id else {}),
    )
