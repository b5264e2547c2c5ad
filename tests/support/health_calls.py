"""Calls of the health service, which needs no container: one that ends at once, and one that stays open."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def probe(channel: grpc.Channel, timeout: float = 60) -> int:
    """The status in the answer to a health check."""
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout).status


def watch(channel: grpc.Channel) -> Any:
    """A stream of the server's health, after its first message."""
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    next(call)
    return call
