"""The messages of gRPC's own log that reach ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import grpc.aio
import pytest

from container_manager.rpc.grpc_workarounds import filter_grpc_log

GRPC = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture(autouse=True)
def filtered() -> Iterator[None]:
    """The filter that the service installs; removed afterwards."""
    loggers = (GRPC, logging.getLogger("asyncio"))
    before = [list(logger.filters) for logger in loggers]
    filter_grpc_log()
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


def log_failed(logger: logging.Logger, exc: Exception, message: object, *arguments: object) -> None:
    """Log an exception as a library does."""
    try:
        raise exc
    except type(exc):
        logger.exception(message, *arguments)


def undecodable() -> UnicodeDecodeError:
    """The error that a header that is not UTF-8 raises; it contains the header."""
    return UnicodeDecodeError("utf-8", b"Bearer secret\xff", 13, 14, "invalid start byte")


def test_a_header_that_is_not_utf_8_is_told_without_the_header(caplog: pytest.LogCaptureFixture) -> None:
    log_failed(GRPC, undecodable(), "Invalid encoding on %s", b"Bearer secret\xff")
    GRPC.error(undecodable())
    assert ["a caller sent a header that is not UTF-8"] * 2 == [record.getMessage() for record in caplog.records]
    assert ["WARNING"] * 2 == [record.levelname for record in caplog.records]
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_caller_that_has_gone_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_failed(GRPC, grpc.aio.InternalError("Failed execute_batch"), "Failed sending error status from server")
    assert [] == caplog.records


def test_everything_else_is_logged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    log_failed(GRPC, ValueError("of ours"), "Unexpected [%s] raised", "ValueError")
    assert ["Unexpected [ValueError] raised"] == [record.getMessage() for record in caplog.records]
    assert "ValueError: of ours" in caplog.text


def test_a_task_that_ended_by_such_a_header_is_logged_by_its_place_alone(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's message shows the task, and in it the exception with the header."""
    exc = undecodable()
    text = "Task exception was never retrieved\nfuture: <Task exception=%r>"
    log_failed(logging.getLogger("asyncio"), exc, text, exc)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"unexpected error: UnicodeDecodeError in {__file__}:")
    assert "secret" not in caplog.text
