"""The call that the running code serves: its id, its start and its trace."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple, Protocol

REQUEST_ID_KEY = "x-request-id"
"""The metadata key of a call's id, in requests and in answers."""

Metadata = Iterable[tuple[str, str | bytes]]

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# A random part for each process and a number for each call: as unique as a UUID here, at a tenth of its cost.
_PREFIX = secrets.token_hex(8)
_numbers = itertools.count(1)


class CallTrace(Protocol):
    """The spans of one call. Usable from any thread."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits; empty unless the call has a span."""

    def engine_call(self, operation: str, outcome: str, started_ns: int, ended_ns: int) -> None:
        """Record an engine call made on behalf of the call."""

    def end(self, code: str, bot_id: str, request_id: str, ended_ns: int) -> None:
        """Record the end of the call, with the name of its status code."""


class Caller(NamedTuple):
    """Who has made a call, as far as gRPC tells."""

    listener: str
    """The address that the call came to."""
    peer: str
    """The caller's address, as gRPC writes it; of a unix socket it says nothing."""
    certificate_subject: str
    """The subject of the client's certificate; empty without one."""
    token: bool
    """Whether the call came with the listener's token."""


class Call:
    """A call that is under way."""

    __slots__ = ("action", "bot_id", "caller", "reason", "request_id", "started", "started_ns", "trace")

    def __init__(self, request_id: str, trace: CallTrace | None, started_ns: int, started: float) -> None:
        self.request_id = request_id
        self.bot_id = ""
        """The request's, as it was sent; empty until the request has arrived, and for one without a bot id."""
        self.action = ""
        """The declared action that the call runs."""
        self.caller: Caller | None = None
        """Known of the calls that the audit log has."""
        self.reason = ""
        """The reason of the error that the call ends with."""
        self.trace = trace
        """``None``: tracing is off, or the call is a health check."""
        self.started_ns = started_ns
        """Nanoseconds of the wall clock."""
        self.started = started
        """Seconds of ``time.perf_counter``."""


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that this task or worker thread serves."""


def request_id_of(metadata: Metadata) -> str:
    """The caller's id for its call, if it is 1 to 128 visible ASCII characters; otherwise a new one."""
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return f"{_PREFIX}-{next(_numbers):x}"


def request_id_metadata() -> tuple[tuple[str, str], ...]:
    """The trailing metadata that returns the call's id to its caller."""
    call = current_call.get()
    return () if call is None else ((REQUEST_ID_KEY, call.request_id),)
