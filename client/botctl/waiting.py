"""Waiting for a started bot to be up: running for a while, or healthy where its image has a health check."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from botctl.rendering.words import reason_word
from botmaker.container.v1 import container_manager_pb2 as pb

SETTLE_SECONDS = 2.0
"""A process without a health check is up when it has lasted so long: most that cannot run end sooner."""
# The service answers from memory.
_POLL_SECONDS = 0.2
_HEALTHY, _UNHEALTHY, _STARTING = pb.HEALTH_STATUS_HEALTHY, pb.HEALTH_STATUS_UNHEALTHY, pb.HEALTH_STATUS_STARTING


class NotWellError(Exception):
    """The bot was started and is not up; the message says why."""


def wait_until_up(
    status_of: Callable[[], pb.ContainerStatus | None],
    *,
    revived_before: int,
    timeout_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """``running`` or ``healthy``, once it is. Raises :class:`NotWellError`, or the last error of a service gone.

    ``revived_before``: the container's restart count when it was started; more means that the process has ended.
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
            # A service that restarts comes back.
            unavailable = exc
        if unavailable is None:
            _check(status, revived_before)
            if status is not None and status.health == _HEALTHY:
                return "healthy"
            up_since = clock() if up_since is None else up_since
            checked = status is not None and status.health == _STARTING
            if not checked and clock() - up_since >= SETTLE_SECONDS:
                return "running"
        if clock() - begun >= timeout_seconds:
            if unavailable is not None:
                raise unavailable
            raise NotWellError(f"was not {'healthy' if checked else 'up'} within {timeout_seconds:g} s")
        sleep(_POLL_SECONDS)


def _check(status: pb.ContainerStatus | None, revived_before: int) -> None:
    if status is None:
        raise NotWellError("its container was removed")
    if status.state == pb.CONTAINER_STATE_RUNNING:
        if status.restart_count > revived_before:
            raise NotWellError("its process ended, and was started again by the restart policy")
        if status.health == _UNHEALTHY:
            raise NotWellError("its health check fails")
        return
    if status.state == pb.CONTAINER_STATE_PAUSED:
        raise NotWellError("it is paused")
    if status.state == pb.CONTAINER_STATE_REMOVING:
        raise NotWellError("its container is being removed")
    if status.error:
        raise NotWellError(status.error)
    if status.HasField("exit_code"):
        raise NotWellError(f"its process ended with exit code {status.exit_code} ({reason_word(status.exit_reason)})")
    raise NotWellError("its process ended")
