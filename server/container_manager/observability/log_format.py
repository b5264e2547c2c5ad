"""The log: structured, to standard error, as text for people or as JSON lines.

A line may hold a caller's or the engine's text. Control characters in it are escaped, and the lines of a traceback are
indented, so that no text can look like a line of its own or send an escape sequence to a terminal.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from typing import Any, Literal, TextIO

import structlog

from container_manager.observability.call import current_call

LogFormat = Literal["text", "json"]

# Control characters, line and paragraph separators, marks that reorder text, and halves of surrogate pairs. botctl has
# the same ones.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TRACEBACK_INDENT = "    "

_log = logging.getLogger(__name__)


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Format all log records, those of libraries too, in one way; log errors that end a thread.

    ``level``: the name of a level of :mod:`logging`.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _escape,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At debug level urllib3 logs each request to the engine, and nothing that the service does not log itself.
    logging.getLogger("urllib3").setLevel(max(logging.INFO, root.level))
    threading.excepthook = _log_end_of_thread


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Log a record that cannot be formatted without its text, which nothing has escaped."""
        if record.name != __name__:
            kind = type(sys.exception()).__name__
            _log.error("a line of the logger %r cannot be written: %s", record.name, kind)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = "unknown" if args.thread is None else args.thread.name
        _log.error("unexpected error: the thread %r has ended", name, exc_info=args.exc_value)


def _add_request_id(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the call's request id to lines that its task or its worker thread logs."""
    call = current_call.get()
    if call is not None:
        event.setdefault("request_id", call.request_id)
    return event


def _escape(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Every key and value as text that stays on its line."""
    return {
        escaped(key): _escaped_lines(value) if key == "exception" else _escaped_value(value)
        for key, value in event.items()
    }


def _escaped_value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else escaped(str(value))


def escaped(text: str) -> str:
    """The text as one line that sends no escape sequence to a terminal."""
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)


def _escaped_lines(text: str) -> str:
    return "\n".join(_TRACEBACK_INDENT + escaped(line) for line in text.split("\n"))
