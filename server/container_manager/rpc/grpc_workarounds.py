"""Works around gRPC.

Filters its log: no data that callers sent, and no tracebacks for errors that callers cause. Ends calls, which its API
for servers cannot.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import Collection
from typing import Any

import grpc.aio

_GRPC_LOGGER = "grpc._cython.cygrpc"
_GRPC_SERVER = "/aio/server.pyx.pxi"
_GRPC_WATCHER = "_schedule_rpc_coro"


def filter_grpc_log() -> None:
    """Install the filters. Call once for the process."""
    logging.getLogger(_GRPC_LOGGER).addFilter(_without_callers)
    logging.getLogger("asyncio").addFilter(_without_headers)


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


def _without_callers(record: logging.LogRecord) -> bool:
    exc = record.msg if isinstance(record.msg, Exception) else _exception(record)
    if isinstance(exc, UnicodeDecodeError):
        # The exception contains the raw header, which may be a token.
        record.msg, record.args, record.exc_info = "a caller sent a header that is not UTF-8", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    # InternalError: the caller has gone before its answer.
    return not isinstance(exc, grpc.aio.InternalError)


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
