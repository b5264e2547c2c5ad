"""The one place where an exception becomes a gRPC status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from container_manager.errors import ContainerManagerError, FieldViolation, InvalidConfigError
from container_manager.observability.call import request_id_metadata
from container_manager.rpc.error_status import STATUS_DETAILS_KEY, grpc_code, internal_error, to_status
from container_manager.rpc.handlers import Continuation, Handler, Wrapped, replace_behavior

_UNDECODABLE = object()
_NO_MESSAGE = FieldViolation("request", "is not an encoded message of the RPC's type")

_log = structlog.get_logger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Aborts with the contract's status for a domain error, and with INTERNAL for anything else, which is logged.

    In streams too, after any number of messages.
    """

    def __init__(self) -> None:
        self._wrapped = Wrapped(_guarded)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)


def _guarded(method: str, handler: Handler) -> Handler:
    def deserialize(data: bytes) -> Any:
        # Raised here, an error would reach neither an interceptor nor, as more than UNKNOWN, the caller.
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            return _UNDECODABLE

    async def guarded(behavior: Any, request: Any, context: Any) -> Any:
        try:
            if handler.stream_stream:
                request = _decoded(request)
            elif request is _UNDECODABLE:
                await abort(context, InvalidConfigError(_NO_MESSAGE))
            return await behavior(request, context)
        except ContainerManagerError as exc:
            await abort(context, exc)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError:
            raise _caller_gone() from None
        except Exception:  # noqa: BLE001 - the last resort; logged whole
            _log.exception("a bug: the call failed unexpectedly", method=method)
            await abort(context, internal_error())

    return replace_behavior(handler, guarded, deserialize)


async def _decoded(requests: Any) -> AsyncIterator[Any]:
    """Of a call with many requests any may be none."""
    async for request in requests:
        if request is _UNDECODABLE:
            raise InvalidConfigError(_NO_MESSAGE)
        yield request


async def abort(context: Any, error: ContainerManagerError) -> NoReturn:
    """End the call with the status of ``error``."""
    status = to_status(error)
    try:
        # Abort's metadata takes the place of what was set before.
        details = (STATUS_DETAILS_KEY, status.SerializeToString())
        await context.abort(grpc_code(status), status.message, (*request_id_metadata(), details))
    except grpc.aio.InternalError:
        raise _caller_gone() from None
    raise AssertionError("abort always raises")


def _caller_gone() -> asyncio.CancelledError:
    """For gRPC's error when nothing can be sent: it would log that, with a traceback, and send an error in vain."""
    return asyncio.CancelledError("the caller has gone before its answer")
