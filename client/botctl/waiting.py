"""Waits until a started bot is up: healthy, or running for a while if its image has no health check."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from botctl.rendering.words import reason_word
from botmaker.container.v1 import container_manager_pb2 as pb

SETTLE_SECONDS = 2.0
"""A bot without a health check is up after running for this long: most faulty processes exit sooner."""
# Polling is cheap: the service answers from memory.
_POLL_SECONDS = 0.2
_HEALTHY, _UNHEALTHY, _STARTING = pb.HEALTH_STATUS_HEALTHY, pb.HEALTH_STATUS_UNHEALTHY, pb.HEALTH_STATUS_STARTING


class NotUpError(Exception):
    """The bot was started but is not up. The message says why."""


def wait_until_up(
    status_of: Callable[[], pb.ContainerStatus | None],
    *,
    restart_count: int,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Returns ``running`` or ``healthy``. Raises :class:`NotUpError`, or the last error of an unavailable service.

    ``restart_count``: the container's restart count right after the start. A higher one means that the process exited.
    """
    begun = clock()
    up_since: float | None = None
    checked = False
    while True:
        unavailable: grpc.RpcError | None = None
        status = None
        try:
            status = status_of()
        except grpc.RpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            # The service may be restarting.
            unavailable = exc
        if unavailable is None:
            _check(status, restart_count)
            if status is not None and status.health == _HEALTHY:
                return "healthy"
            up_since = clock() if up_since is None else up_since
            checked = status is not None and status.health == _STARTING
            if not checked and clock() - up_since >= SETTLE_SECONDS:
                return "running"
        if clock() - begun >= timeout_seconds:
            if unavailable is not None:
                raise unavailable
            raise NotUpError(f"was not {'healthy' if checked else 'up'} within {timeout_seconds:g} s")
        sleep(_POLL_SECONDS)


def _check(status: pb.ContainerStatus | None, restart_count: int) -> None:
    if status is None:
        raise NotUpError("its container was removed")
    if status.state == pb.CONTAINER_STATE_RUNNING:
        if status.restart_count > restart_count:
            raise NotUpError("its process ended, and was started again by the restart policy")
        if status.health == _UNHEALTHY:
            raise NotUpError("its health check fails")
        return
    if status.state == pb.CONTAINER_STATE_PAUSED:
        raise NotUpError("it is paused")
    if status.state == pb.CONTAINER_STATE_REMOVING:
        raise NotUpError("its container is being removed")
    if status.error:
        raise NotUpError(status.error)
    if status.HasField("exit_code"):
        raise NotUpError(f"its process ended with exit code {status.exit_code} ({reason_word(status.exit_reason)})")
    raise NotUpError("its process ended")
