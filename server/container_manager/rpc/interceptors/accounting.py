"""Accounts for every call: when it started, its request id, and its status code."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio

from container_manager.observability.accounting import Accounting, Method
from container_manager.observability.call import REQUEST_ID_KEY, Caller, Metadata, current_call
from container_manager.rpc.interceptors.errors import send_error, unsent_errors
from container_manager.rpc.interceptors.handlers import Continuation, Handler, replace_behavior
from container_manager.scheduling.unsent_answers import EndCalls, UnsentAnswers

# A call's interceptors and handler run in one task. The context would convert the metadata a second time.
_metadata: ContextVar[Metadata] = ContextVar("metadata")
MAX_UNSENT_ERROR_BYTES = 64 * 1024 * 1024
_CODE_NAMES = {status.value[0]: status.name for status in grpc.StatusCode}


class AccountingInterceptor(grpc.aio.ServerInterceptor):
    """Must be the outermost interceptor, so that it also accounts for the calls that others refuse."""

    def __init__(self, accounting: Accounting, listener: str, end_calls: EndCalls, *, has_token: bool) -> None:
        """``has_token``: the listener serves no call without its token."""
        self._accounting = accounting
        self._listener = listener
        self._has_token = has_token
        # Apart from answers: callers without a token may cause them.
        self._unsent_errors = UnsentAnswers(MAX_UNSENT_ERROR_BYTES, end_calls)
        # By method: the inner handler and its wrapper. A refused call has another inner handler than an accepted one.
        self._handlers: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        unsent_errors.set(self._unsent_errors)
        _metadata.set(handler_call_details.invocation_metadata or ())
        handler = await continuation(handler_call_details)
        known = self._handlers.get(handler_call_details.method)
        if known is not None and known[0] is handler:
            return known[1]
        method = self._accounting.method(handler_call_details.method)
        accounted = self._accounted(method, handler or _UNKNOWN)
        if method.name == handler_call_details.method:
            self._handlers[method.name] = handler, accounted
        return accounted

    def _caller(self, context: Any) -> Caller:
        subject = (context.auth_context() or {}).get("x509_subject", (b"",))[0]
        return Caller(self._listener, context.peer(), subject.decode("utf-8", "replace"), self._has_token)

    def _accounted(self, method: Method, handler: Handler) -> Handler:
        accounting = self._accounting

        async def accounted(behavior: Any, request: Any, context: Any) -> Any:
            call = accounting.begin(method, _metadata.get())
            # Each call runs in its own task, so the context variable is the call's own.
            current_call.set(call)
            if method.audited:
                call.caller = self._caller(context)
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
            code = "UNKNOWN"
            try:
                response = await behavior(request, context)
            except grpc.aio.AbortError:
                code = code_name(context.code())
                raise
            except asyncio.CancelledError:
                code = "CANCELLED" if context.time_remaining() != 0 else "DEADLINE_EXCEEDED"
                raise
            else:
                code = "OK"
                return response
            finally:
                accounting.end(method, call, code)

        return replace_behavior(handler, accounted)


async def _unknown_method(_requests: Any, context: Any) -> None:
    """Answer as gRPC itself does."""
    await send_error(context, grpc.StatusCode.UNIMPLEMENTED, "Method not found!", context.trailing_metadata())


_UNKNOWN: Handler = grpc.stream_stream_rpc_method_handler(_unknown_method)


def code_name(code: Any) -> str:
    """The name of a status code, which a gRPC context holds as an enum member or as a number."""
    return code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(code, str(code))
