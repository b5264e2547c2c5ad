"""The standard service grpc.health.v1, of one listener's services."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from container_manager.rpc.interceptors.errors import send_error

# A grpc.aio.ServicerContext, which takes no type parameters at run time.
Context = Any

_Status = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """One status for all services of a listener, for one event loop.

    grpcio-health-checking's servicer holds a lock while it writes to a watcher: one that takes no answer would hold up
    all others, and whoever sets the status.
    """

    def __init__(self, services: Iterable[str]) -> None:
        """NOT_SERVING until :meth:`set` says otherwise."""
        self._services = frozenset(("", *services))
        self._status: Any = _Status.NOT_SERVING
        self._changed = asyncio.Event()
        self._is_final = False

    def set(self, *, serving: bool) -> None:
        """Tell all watchers, if that is new."""
        status = _Status.SERVING if serving else _Status.NOT_SERVING
        if not self._is_final and status != self._status:
            self._status = status
            self._changed.set()
            self._changed = asyncio.Event()

    def shut_down(self) -> None:
        """NOT_SERVING from now on."""
        self.set(serving=False)
        self._is_final = True

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        if request.service not in self._services:
            await send_error(context, grpc.StatusCode.NOT_FOUND, "", ())
        return _Status(status=self._status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        last = None
        while True:
            changed = self._changed
            status = self._status if request.service in self._services else _Status.SERVICE_UNKNOWN
            if status != last:
                await context.write(_Status(status=status))
                last = status
            await changed.wait()
