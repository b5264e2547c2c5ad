"""Turns exceptions into gRPC statuses; nothing else in the service does."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from container_manager.errors import (
    ERROR_DOMAIN,
    ContainerManagerError,
    InvalidArgumentError,
)
from container_manager.observability.call import Metadata, current_call, request_id_metadata
from container_manager.rpc.interceptors.handlers import Continuation, Handler, Wrapped, replace_behavior
from container_manager.scheduling.unsent_answers import UnsentAnswers

# gRPC reads a response's metadata up to 8 KiB by default, and a larger one is an error of another kind;
# the details travel base64-encoded beside the message.
_MAX_MESSAGE_BYTES = 1_000
_MAX_METADATA_BYTES = 300
_MAX_ERROR_BYTES = 8 * 1024
_MAX_VIOLATIONS = 8
_MAX_VIOLATION_CHARACTERS = 120
STATUS_DETAILS_KEY = "grpc-status-details-bin"

unsent_errors: ContextVar[UnsentAnswers] = ContextVar("unsent_errors")
"""Of the call's listener. The outermost interceptor sets it."""

_log = structlog.get_logger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Aborts a call with the contract's status for a domain error, and with INTERNAL for any other exception.

    Logs the others with their traceback. Works for streams as well, after any number of messages.
    """

    def __init__(self) -> None:
        self._wrapped = Wrapped(_guarded)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        return await self._wrapped(continuation, handler_call_details)


def _guarded(method: str, handler: Handler) -> Handler:
    async def guarded(behavior: Any, request: Any, context: Any) -> Any:
        try:
            return await behavior(request, context)
        except ContainerManagerError as exc:
            status, reason = to_status(exc), exc.reason
        except grpc.aio.AbortError:
            raise
        except grpc.aio.InternalError:
            raise _caller_gone() from None
        except Exception:  # noqa: BLE001 - the last resort; logged with its traceback
            _log.exception("unexpected error: the call failed", method=method)
            status, reason = to_status(internal_error()), internal_error().reason
        # Outside of the handlers: gRPC keeps the exception of an abort in a cycle of references. With the error as its
        # context, the request would stay in memory until the garbage collector comes.
        return await _abort(context, status, reason)

    return replace_behavior(handler, guarded)


async def abort(context: Any, error: ContainerManagerError) -> NoReturn:
    """End the call with the status of ``error``."""
    await _abort(context, to_status(error), error.reason)


async def _abort(context: Any, status: status_pb2.Status, reason: str) -> NoReturn:
    call = current_call.get()
    if call is not None:
        call.reason = reason
    # The metadata of an abort replaces the trailing metadata that was set before.
    details = (STATUS_DETAILS_KEY, status.SerializeToString())
    await send_error(context, grpc_code(status), status.message, (*request_id_metadata(), details))


async def send_error(context: Any, code: grpc.StatusCode, message: str, metadata: Metadata) -> NoReturn:
    """End the call with this status, which callers may leave unread as they may an answer."""
    unsent_errors.get().add(_MAX_ERROR_BYTES)
    try:
        await context.abort(code, message, metadata)
    except grpc.aio.InternalError:
        raise _caller_gone() from None
    raise AssertionError("abort always raises")


def _caller_gone() -> asyncio.CancelledError:
    """Replaces gRPC's error for a caller that is gone, which gRPC would log with a traceback and try to send."""
    return asyncio.CancelledError("the caller has gone before its answer")


def to_status(error: ContainerManagerError) -> status_pb2.Status:
    """The status of a domain error, within what gRPC's metadata holds."""
    message = _truncated(str(error), _MAX_MESSAGE_BYTES)
    metadata = {key: _truncated(value, _MAX_METADATA_BYTES) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata)
    details = [_packed(info)]
    if isinstance(error, InvalidArgumentError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_truncated(violation.field, _MAX_VIOLATION_CHARACTERS),
                description=_truncated(violation.description, _MAX_VIOLATION_CHARACTERS),
            )
            for violation in error.violations[:_MAX_VIOLATIONS]
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message, details=details)


def internal_error() -> ContainerManagerError:
    """The error for an unexpected exception. It tells the caller nothing of the exception."""
    return ContainerManagerError("internal error; the server's log has the details")


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """gRPC's name for a status's code."""
    return grpc.StatusCode[code_pb2.Code.Name(status.code)]


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _truncated(text: str, size: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= size else encoded[:size].decode("utf-8", "ignore") + "…"
