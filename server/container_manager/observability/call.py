"""One call as the log and the traces know it, and which one this code runs for."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

from container_manager.observability.trace_context import TraceContext

REQUEST_ID_KEY = "x-request-id"
"""In the metadata of a request, as its caller calls it; in that of the answer, as we do."""

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# A random part for each process and a number for each call: as good as a UUID here, for a tenth of its price.
_PREFIX = secrets.token_hex(8)
_numbers = itertools.count(1)


class Call:
    """A call that is under way."""

    __slots__ = ("begun", "begun_ns", "request_id", "trace")

    def __init__(self, request_id: str, trace: TraceContext | None, begun_ns: int, begun: float) -> None:
        self.request_id = request_id
        self.trace = trace
        """``None``: not traced."""
        self.begun_ns = begun_ns
        """On the wall clock."""
        self.begun = begun
        """In seconds of ``time.perf_counter``."""


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that this task or worker thread runs for."""


def request_id_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The caller's own id for its call, if it is 1 to 128 visible ASCII characters; else a new one."""
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return f"{_PREFIX}-{next(_numbers):x}"


def request_id_metadata() -> tuple[tuple[str, str], ...]:
    """The trailing metadata that tells the caller its call's id."""
    call = current_call.get()
    return () if call is None else ((REQUEST_ID_KEY, call.request_id),)
