"""Reports each call to the engine: its operation, its outcome and its duration."""

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
# The operations of GET /containers/ID/…, by the last part of the path.
_OF_CONTAINER = {"json": "inspect_container", "logs": "stream_logs", "stats": "stats"}
_OF_PATH = {
    "/events": "stream_events",
    "/containers/json": "list_containers",
    "/services": "list_services",
    "/tasks": "list_tasks",
    "/nodes": "list_nodes",
}


@contextmanager
def observed(observer: CallObserver | None, operation: str) -> Iterator[None]:
    """Report the engine call in this context to ``observer``. Its errors are those of the engine clients."""
    if observer is None:
        yield
        return
    started_ns, started = time.time_ns(), time.perf_counter()
    outcome = OK
    try:
        yield
    except BaseException as exc:
        outcome = _outcome(exc)
        raise
    finally:
        observer(operation, outcome, started_ns, time.perf_counter() - started)


def operation_of(path: str) -> str:
    """The name of the operation that a GET of ``path`` performs."""
    head, _, last = path.rpartition("/")
    if head.startswith("/containers/"):
        return _OF_CONTAINER.get(last, "other")
    if head == "/services":
        return "inspect_service"
    if head.startswith("/tasks/"):
        return "task_log"
    return _OF_PATH.get(path, "other")


def _outcome(exc: BaseException) -> str:
    if isinstance(exc, EngineRejectedError):
        return "not_found" if exc.status == HTTPStatus.NOT_FOUND else "rejected"
    return next((outcome for kind, outcome in _OUTCOMES.items() if isinstance(exc, kind)), "error")
