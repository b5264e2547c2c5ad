"""The error interceptor where callers do not behave: requests that are none, and callers that have gone."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
import pytest

from container_manager.errors import ContainerNotFoundError
from container_manager.rpc.interceptors.errors import ErrorInterceptor


class GoneContext:
    """Of a call whose caller has gone: nothing can be sent."""

    async def abort(self, *_: object) -> None:
        raise grpc.aio.InternalError("Failed execute_batch")


class AbortedError(Exception):
    """Stands for gRPC's own."""


class Context:
    """Of a call whose caller is there."""

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        raise AbortedError(code.name)


class Details:
    method = "/a.B/C"
    invocation_metadata = ()


def intercepted(handler: Any) -> Any:
    """The handler that the interceptor puts in its place."""

    async def found(_: object) -> Any:
        return handler

    return asyncio.run(ErrorInterceptor().intercept_service(found, Details()))  # type: ignore[arg-type]


@pytest.mark.parametrize("raised", [ContainerNotFoundError("none"), grpc.aio.InternalError("write"), ValueError("bug")])
def test_a_caller_that_has_gone_ends_the_call_as_its_cancellation_would(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def behavior(_request: object, _context: object) -> None:
        raise raised

    handler = intercepted(grpc.unary_unary_rpc_method_handler(behavior))
    with pytest.raises(asyncio.CancelledError), caplog.at_level(logging.ERROR):
        asyncio.run(handler.unary_unary(None, GoneContext()))
    # Only a bug is told, caller or no caller.
    assert isinstance(raised, ValueError) == bool(caplog.records)
