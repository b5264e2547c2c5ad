"""Telling somebody of each call to the engine: what it was, how it ended, and how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from container_manager.backend import CallObserver
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError

OK = "ok"
_OUTCOMES: dict[type[BaseException], str] = {
    EngineTimeoutError: "timeout",
    EngineAccessDeniedError: "denied",
    EngineUnavailableError: "unavailable",
    asyncio.CancelledError: "cancelled",
    GeneratorExit: "cancelled",
}
# The second part of a path below /containers, as the operation that it stands for.
_OF_CONTAINER = {"json": "inspect_container", "logs": "stream_logs", "stats": "stats"}
_OF_PATH = {"/events": "stream_events", "/containers/json": "list_containers"}


@contextmanager
def observed(observer: CallObserver | None, operation: str) -> Iterator[None]:
    """Tell ``observer`` of the call inside, whose errors are those of :mod:`container_manager.engine.client`."""
    if observer is None:
        yield
        return
    begun_ns, begun = time.time_ns(), time.perf_counter()
    outcome = OK
    try:
        yield
    except BaseException as exc:
        outcome = _outcome(exc)
        raise
    finally:
        observer(operation, outcome, begun_ns, time.perf_counter() - begun)


def operation_of(path: str) -> str:
    """What a GET of ``path`` does, in one of few names."""
    head, _, last = path.rpartition("/")
    if head.startswith("/containers/"):
        return _OF_CONTAINER.get(last, "other")
    return _OF_PATH.get(path, "other")


def _outcome(exc: BaseException) -> str:
    if isinstance(exc, EngineRejectedError):
        return "not_found" if exc.status == HTTPStatus.NOT_FOUND else "rejected"
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(exc, kind)), "error")
