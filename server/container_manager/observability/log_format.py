"""The log: structured, to standard error, as text for people or as JSON lines."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

from container_manager.observability.call import current_call

LogFormat = Literal["text", "json"]


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send this package's and every library's log records through one renderer. ``level``: a stdlib level's name."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At debug level urllib3 logs every request to the engine, which says nothing that is not ours to log once.
    logging.getLogger("urllib3").setLevel(max(logging.INFO, root.level))


def _add_request_id(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """To whatever is logged while a call is served, by its task or by the worker that acts for it."""
    call = current_call.get()
    if call is not None:
        event.setdefault("request_id", call.request_id)
    return event
