"""Works around gRPC.

Filters its log: no data that callers sent, and no tracebacks for errors that callers cause. Ends calls, which its API
for servers cannot.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Collection, Coroutine
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypeVar

import grpc.aio
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from container_manager.rpc.repeated_warning import RepeatedWarning

T = TypeVar("T")

_GRPC_LOGGER = "grpc._cython.cygrpc"
_GRPC_SERVER = "/aio/server.pyx.pxi"
_GRPC_WATCHER = "_schedule_rpc_coro"

_log = structlog.get_logger(__name__)


async def with_filtered_grpc_log(work: Coroutine[Any, Any, T]) -> T:
    """Run this with the filters. Call once for the process: they stay, as gRPC may log until the process ends."""
    loop = asyncio.get_running_loop()
    undecodable = RepeatedWarning(_warn)

    def without_callers(record: logging.LogRecord) -> bool:
        exc = record.msg if isinstance(record.msg, Exception) else _exception(record)
        if isinstance(exc, UnicodeDecodeError):
            # The exception contains the raw header, which may be a token. gRPC logs each, before any token is checked.
            with suppress(RuntimeError):  # The loop has ended.
                loop.call_soon_threadsafe(undecodable.count)
            return False
        # InternalError: the caller has gone before its answer.
        return not isinstance(exc, grpc.aio.InternalError)

    # gRPC prints the traceback of each refusal of a path that is not UTF-8 and whose sender has gone, past the log.
    cygrpc.traceback = SimpleNamespace(**{**vars(traceback), "print_exc": lambda: None})
    logging.getLogger(_GRPC_LOGGER).addFilter(without_callers)
    logging.getLogger("asyncio").addFilter(_without_headers)
    try:
        return await work
    finally:
        undecodable.close()


def _warn(headers: int) -> None:
    _log.warning("callers sent headers that are not UTF-8", headers=headers)


def end_calls(tasks: Collection[asyncio.Task[Any]]) -> None:
    """End the calls whose handlers run in these tasks; gRPC frees what it keeps for them, and resets their streams.

    The end of its task does not end a call while its answer is unsent. A second task of each call, which waits for the
    call's end and which gRPC shows to nobody, keeps the call too.
    """
    wanted = set(tasks)
    for watcher in asyncio.all_tasks():
        coroutine = watcher.get_coro()
        if getattr(coroutine, "__name__", "") == _GRPC_WATCHER:
            # Its closure has the handler's task.
            kept = gc.get_referents(*gc.get_referents(coroutine))
            if any(isinstance(each, asyncio.Task) and each in wanted for each in kept):
                watcher.cancel()
    for task in wanted:
        task.cancel()


def _without_headers(record: logging.LogRecord) -> bool:
    """asyncio logs an exception that ended a task, and the task with it; either shows the raw header."""
    exc = _exception(record)
    if not isinstance(exc, UnicodeDecodeError):
        return True
    place = traceback.extract_tb(exc.__traceback__)[-1:]
    where = f"{place[0].filename}:{place[0].lineno}" if place else "an unknown place"
    record.msg, record.args, record.exc_info = f"unexpected error: UnicodeDecodeError in {where}", (), None
    # gRPC has logged its own.
    return not where.partition(":")[0].endswith(_GRPC_SERVER)


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
