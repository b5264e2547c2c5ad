"""What gRPC logs of its callers, without what they sent, and without tracebacks for what is their doing."""

from __future__ import annotations

import logging
import traceback

import grpc.aio

_GRPC_LOGGER = "grpc._cython.cygrpc"
_GRPC_SERVER = "/aio/server.pyx.pxi"


def filter_grpc_log() -> None:
    """From now on; once for the process."""
    logging.getLogger(_GRPC_LOGGER).addFilter(_without_callers)
    logging.getLogger("asyncio").addFilter(_unless_told_by_grpc)


def _without_callers(record: logging.LogRecord) -> bool:
    exc = record.msg if isinstance(record.msg, Exception) else _exception(record)
    if isinstance(exc, UnicodeDecodeError):
        # It holds the header as it came, be it one with a token in it.
        record.msg, record.args, record.exc_info = "a caller sent a header that is not UTF-8", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    # The other one: the caller has gone before its answer.
    return not isinstance(exc, grpc.aio.InternalError)


def _unless_told_by_grpc(record: logging.LogRecord) -> bool:
    """asyncio tells it once more, when gRPC's server has ended by it."""
    exc = _exception(record)
    if not isinstance(exc, UnicodeDecodeError):
        return True
    frames = traceback.extract_tb(exc.__traceback__)
    return not (frames and frames[-1].filename.endswith(_GRPC_SERVER))


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
