"""Asks a running service for its health over ``grpc.health.v1``."""

from __future__ import annotations

import os
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager.config import MAX_UNIX_PATH_BYTES
from container_manager_client import connect


class UnhealthyError(Exception):
    """The service cannot be reached, or is not serving; the message is one line."""


def probe_health(address: str, timeout_seconds: float) -> None:
    """Return if the service at ``address`` (``unix:///path`` or ``tcp://host:port``) is serving.

    Raises :class:`UnhealthyError` if it is not, and :class:`ValueError` if ``address`` is not an address.
    """
    if len(os.fsencode(address.removeprefix("unix://"))) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"{address!r} is too long: a socket's path has at most {MAX_UNIX_PATH_BYTES} bytes")
    with connect(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types name no method
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.RpcError as exc:
            raise UnhealthyError(_problem(address, exc, timeout_seconds)) from exc
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise UnhealthyError(f"{address} is not serving: the service runs, but its Docker Engine does not answer")


def _problem(address: str, exc: grpc.RpcError, timeout_seconds: float) -> str:
    code, details = exc.code(), " ".join((exc.details() or "").split())
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} did not answer within {timeout_seconds:g} s"
    if code is grpc.StatusCode.UNAVAILABLE:
        # gRPC puts every attempt in front of the system's message.
        cause = details.rpartition(": ")[2]
        hint = "" if address.startswith("unix:") else "; a listener with TLS cannot be asked: use the unix socket"
        return f"{address} cannot be reached: {cause}{hint}"
    return f"{address} gave no answer about its health: {code.name}: {details}"
