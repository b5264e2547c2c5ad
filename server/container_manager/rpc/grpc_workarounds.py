"""Filters gRPC's log: no data that callers sent, and no tracebacks for errors that callers cause."""

from __future__ import annotations

import logging
import traceback

import grpc.aio

_GRPC_LOGGER = "grpc._cython.cygrpc"
_GRPC_SERVER = "/aio/server.pyx.pxi"


def filter_grpc_log() -> None:
    """Install the filters. Call once for the process."""
    logging.getLogger(_GRPC_LOGGER).addFilter(_without_callers)
    logging.getLogger("asyncio").addFilter(_without_headers)


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
