"""Requires a bearer token on TCP listeners."""

from __future__ import annotations

import hmac
from typing import Any

import grpc
import grpc.aio
import structlog

from container_manager.errors import UnauthenticatedError
from container_manager.rpc.interceptors.errors import abort
from container_manager.rpc.interceptors.handlers import Continuation, Handler
from container_manager.rpc.repeated_warning import RepeatedWarning

_WITHOUT_TOKEN = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")

_log = structlog.get_logger(__name__)


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call without ``authorization: Bearer <token>``, health checks excepted."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._refused = RepeatedWarning(self._warn)
        self._peer = ""
        # For every kind of call: the refusal comes before the first message is read.
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def close(self) -> None:
        """Log the refused calls that no line of the log has counted. There may be no further call."""
        self._refused.close()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        if handler_call_details.method in _WITHOUT_TOKEN or self._accepts(handler_call_details):
            return await continuation(handler_call_details)
        return self._refusal

    def _accepts(self, details: grpc.HandlerCallDetails) -> bool:
        given = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = str(given[0]).partition(" ")
        # RFC 9110, 11.1: the scheme is matched in any case.
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._token)

    async def _refuse(self, _requests: Any, context: Any) -> Any:
        self._peer = context.peer()
        self._refused.count()
        message = "a valid bearer token is needed: metadata 'authorization: Bearer TOKEN'"
        await abort(context, UnauthenticatedError(message))

    def _warn(self, calls: int) -> None:
        _log.warning("refused calls without a valid token", calls=calls, peer=self._peer)
