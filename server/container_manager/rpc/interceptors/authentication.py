"""Requires a bearer token on TCP listeners."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import grpc
import grpc.aio
import structlog

from container_manager.errors import UnauthenticatedError
from container_manager.rpc.interceptors.errors import abort
from container_manager.rpc.interceptors.handlers import Continuation, Handler

_HEALTH_PREFIX = "/grpc.health.v1.Health/"
_WARNING_INTERVAL_SECONDS = 60.0

_log = structlog.get_logger(__name__)


class AuthenticationInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call without ``authorization: Bearer <token>``, health checks excepted."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._refused = _RefusedCalls()
        # For every kind of call: the refusal comes before the first message is read.
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def close(self) -> None:
        """Log the refused calls that no line of the log has counted. There may be no further call."""
        self._refused.close()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        if handler_call_details.method.startswith(_HEALTH_PREFIX) or self._accepts(handler_call_details):
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
        # Whoever can connect can cause this line: it must not fill the disk.
        self._refused.count(context.peer())
        message = "a valid bearer token is needed: metadata 'authorization: Bearer TOKEN'"
        await abort(context, UnauthenticatedError(message))


class _RefusedCalls:
    """Logs the first refused call at once, and the number of those after it at the end of each minute."""

    def __init__(self) -> None:
        self._calls = 0
        self._peer = ""
        self._minute: asyncio.TimerHandle | None = None

    def count(self, peer: str) -> None:
        self._calls += 1
        self._peer = peer
        if self._minute is None:
            self._end_minute()

    def close(self) -> None:
        if self._minute is not None:
            self._minute.cancel()
        self._log()

    def _end_minute(self) -> None:
        self._minute = None
        if self._log():
            self._minute = asyncio.get_running_loop().call_later(_WARNING_INTERVAL_SECONDS, self._end_minute)

    def _log(self) -> bool:
        calls, self._calls = self._calls, 0
        if calls:
            _log.warning("refused calls without a valid token", calls=calls, peer=self._peer)
        return calls > 0
