"""The log: structured, to standard error, as text for people or as JSON lines."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Literal

import structlog

_GRPC_LOGGER = "grpc._cython.cygrpc"
_GRPC_SERVER = "/aio/server.pyx.pxi"

LogFormat = Literal["text", "json"]


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send this package's and every library's log records through one renderer. ``level``: a stdlib level's name."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.getLogger(_GRPC_LOGGER).addFilter(_without_callers_bytes)
    logging.getLogger("asyncio").addFilter(_unless_told_by_grpc)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At debug level urllib3 logs every request to the engine, which says nothing that is not ours to log once.
    logging.getLogger("urllib3").setLevel(max(logging.INFO, root.level))


def _without_callers_bytes(record: logging.LogRecord) -> bool:
    """gRPC logs what it can't decode as it came, be it a header with a token in it; and with a traceback."""
    if isinstance(record.msg, UnicodeDecodeError) or isinstance(_exception(record), UnicodeDecodeError):
        record.msg, record.args, record.exc_info = "a caller sent a header that is not UTF-8", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _unless_told_by_grpc(record: logging.LogRecord) -> bool:
    """asyncio tells the same once more, when gRPC's server has ended by it."""
    exc = _exception(record)
    if not isinstance(exc, UnicodeDecodeError):
        return True
    places = [frame.filename for frame in traceback.extract_tb(exc.__traceback__)]
    return not (places and places[-1].endswith(_GRPC_SERVER))


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
