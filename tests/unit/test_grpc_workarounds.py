"""The messages of gRPC's own log that reach ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import grpc.aio
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from structlog.testing import capture_logs

from container_manager.rpc.grpc_workarounds import with_filtered_grpc_log
from tests.support.virtual_loop import virtual

GRPC = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture(autouse=True)
def filtered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service's filters are this test's own, and are removed after it."""
    monkeypatch.setattr(cygrpc, "traceback", cygrpc.traceback)
    loggers = (GRPC, logging.getLogger("asyncio"))
    before = [list(logger.filters) for logger in loggers]
    for logger in loggers:
        # Those of a service that an earlier test has run in this process.
        logger.filters.clear()
    yield
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


def filtering(work: Callable[[], object]) -> None:
    """Do this as the service would."""

    async def working() -> None:
        work()
        # For what is to be done on the loop.
        await asyncio.sleep(0)

    asyncio.run(with_filtered_grpc_log(working()))


def log_failed(logger: logging.Logger, exc: Exception, message: object, *arguments: object) -> None:
    """Log an exception as a library does."""
    try:
        raise exc
    except type(exc):
        logger.exception(message, *arguments)


def undecodable() -> UnicodeDecodeError:
    """The error that a header that is not UTF-8 raises; it contains the header."""
    return UnicodeDecodeError("utf-8", b"Bearer secret\xff", 13, 14, "invalid start byte")


def log_undecodable() -> None:
    """Log such a header in both of gRPC's ways."""
    log_failed(GRPC, undecodable(), "Invalid encoding on %s", b"Bearer secret\xff")
    GRPC.error(undecodable())


@virtual
async def test_headers_that_are_not_utf_8_are_told_once_a_minute_by_their_number_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def minutes() -> list[list[int]]:
        seen = []
        for times in (5, 1, 0, 1, 2):
            with capture_logs() as logged:
                for _ in range(times):
                    log_undecodable()
                await asyncio.sleep(60.1 if len(seen) < 4 else 1)
            seen.append([line["headers"] for line in logged])
        return seen

    with capture_logs() as at_the_end:
        seen = await with_filtered_grpc_log(minutes())
    assert [[1, 9], [2], [], [1, 1], []] == seen
    assert [4] == [line["headers"] for line in at_the_end]
    assert [] == caplog.records


def test_a_header_that_is_logged_after_the_loops_end_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    filtering(lambda: None)
    log_undecodable()
    assert [] == caplog.records


def test_a_caller_that_has_gone_is_neither_logged_nor_printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        log_failed(GRPC, grpc.aio.InternalError("Failed execute_batch"), "Failed sending error status from server")
        cygrpc.traceback.print_exc()

    filtering(fail)
    assert [] == caplog.records
    assert ("", "") == capfd.readouterr()


def test_everything_else_is_logged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    filtering(lambda: log_failed(GRPC, ValueError("of ours"), "Unexpected [%s] raised", "ValueError"))
    assert ["Unexpected [ValueError] raised"] == [record.getMessage() for record in caplog.records]
    assert "ValueError: of ours" in caplog.text


def test_a_task_that_ended_by_such_a_header_is_logged_by_its_place_alone(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's message shows the task, and in it the exception with the header."""
    exc = undecodable()
    text = "Task exception was never retrieved\nfuture: <Task exception=%r>"
    filtering(lambda: log_failed(logging.getLogger("asyncio"), exc, text, exc))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"unexpected error: UnicodeDecodeError in {__file__}:")
    assert "secret" not in caplog.text
