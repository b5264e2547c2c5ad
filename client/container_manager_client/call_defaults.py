"""Interceptors that complete a call: a default deadline, a request id and the token."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message

from botmaker.container.v1 import container_manager_pb2 as pb

READ_SECONDS = 20.0
# It may wait for a stop of the bot.
PROVISIONING_SECONDS = 60.0
# The server gives the bot 90 s, and a restart may follow.
RELOAD_SECONDS = 240.0
# A create may pull its image, and a start may wait until other bots are ready.
LONG_SECONDS = 600.0
# Added to the grace period of the call. Without one, UNKNOWN_GRACE_SECONDS stands for the server's default.
AFTER_GRACE_SECONDS = 60.0
UNKNOWN_GRACE_SECONDS = 90.0
LONGEST_GRACE_SECONDS = 86_400.0


# By name, since most callers need no message of this service.
_PROVISIONING = {
    "botmaker.container.v1.PutSecretsRequest": PROVISIONING_SECONDS,
    "botmaker.container.v1.DeleteSecretsRequest": PROVISIONING_SECONDS,
    "botmaker.container.v1.ReloadSecretsRequest": RELOAD_SECONDS,
    "botmaker.container.v1.PutFilesRequest": PROVISIONING_SECONDS,
    "botmaker.container.v1.DeleteStateRequest": PROVISIONING_SECONDS,
}


def default_timeout(request: Any) -> float:
    """The default timeout of a call with this request, in seconds. It always exceeds the grace period of a stop."""
    if isinstance(request, (pb.CreateContainerRequest, pb.StartContainerRequest)):
        return LONG_SECONDS
    if isinstance(request, pb.RestartContainerRequest):
        return _grace_seconds(request) + LONG_SECONDS
    if isinstance(request, (pb.StopContainerRequest, pb.RemoveContainerRequest)):
        return _grace_seconds(request) + AFTER_GRACE_SECONDS
    name = request.DESCRIPTOR.full_name if isinstance(request, Message) else ""
    return _PROVISIONING.get(name, READ_SECONDS)


def _grace_seconds(request: Any) -> float:
    grace = UNKNOWN_GRACE_SECONDS
    if request.HasField("grace_period"):
        grace = request.grace_period.seconds + request.grace_period.nanos / 1e9
    # The server refuses a grace out of bounds. Limit it here, because gRPC cannot handle such a timeout.
    return min(max(grace, 0.0), LONGEST_GRACE_SECONDS)


def with_request_id(request: Any) -> Any:
    """Returns the request. A create without a request id is copied and gets one, to make its retry safe (AIP-4235)."""
    if not isinstance(request, pb.CreateContainerRequest) or request.request_id:
        return request
    copy = pb.CreateContainerRequest()
    copy.CopyFrom(request)
    copy.request_id = str(uuid.uuid4())
    return copy


class SyncCallDefaults(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """For channels of :mod:`grpc`. A stream gets no deadline: it lasts until its caller ends it."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        """Completes the call and passes it on."""
        request = with_request_id(request)
        timeout = default_timeout(request) if details.timeout is None else details.timeout
        return continuation(self._completed(details, timeout), request)

    def intercept_unary_stream(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        """Completes the call and passes it on."""
        return continuation(self._completed(details, details.timeout), request)

    def intercept_stream_unary(self, continuation: Callable[[Any, Any], Any], details: Any, requests: Any) -> Any:
        """Completes the call and passes it on."""
        return continuation(self._completed(details, details.timeout), requests)

    def intercept_stream_stream(self, continuation: Callable[[Any, Any], Any], details: Any, requests: Any) -> Any:
        """Completes the call and passes it on, such as one of reflection."""
        return continuation(self._completed(details, details.timeout), requests)

    def _completed(self, details: Any, timeout: float | None) -> _SyncCallDetails:
        return _SyncCallDetails(
            details.method,
            timeout,
            _with_token(details.metadata or (), self._token),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class AioCallDefaults(grpc.aio.UnaryUnaryClientInterceptor):
    """For channels of :mod:`grpc.aio`."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        """Completes the call and passes it on."""
        request = with_request_id(request)
        completed = client_call_details._replace(
            timeout=default_timeout(request) if client_call_details.timeout is None else client_call_details.timeout,
            metadata=grpc.aio.Metadata(*_with_token(client_call_details.metadata or (), self._token)),
        )
        return await continuation(completed, request)


class _AioStreamDefaults:
    """Completes streams on channels of :mod:`grpc.aio`. gRPC wants a separate interceptor for each kind of call."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def _completed(self, details: Any) -> Any:
        return details._replace(metadata=grpc.aio.Metadata(*_with_token(details.metadata or (), self._token)))


class _AioUnaryStream(_AioStreamDefaults, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self._completed(client_call_details), request)


class _AioStreamUnary(_AioStreamDefaults, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._completed(client_call_details), request_iterator)


class _AioStreamStream(_AioStreamDefaults, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self._completed(client_call_details), request_iterator)


def aio_call_defaults(token: str | None) -> list[grpc.aio.ClientInterceptor]:
    """The interceptors of a channel of :mod:`grpc.aio`, one for each kind of call."""
    return [AioCallDefaults(token), _AioUnaryStream(token), _AioStreamUnary(token), _AioStreamStream(token)]


class _SyncCallDetails(NamedTuple):
    """The attributes of a call that gRPC reads. gRPC's own class cannot be instantiated."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


def _with_token(metadata: Iterable[tuple[str, str | bytes]], token: str | None) -> list[tuple[str, str | bytes]]:
    given = list(metadata)
    if token is None or any(key == "authorization" for key, _ in given):
        return given
    return [*given, ("authorization", f"Bearer {token}")]
