"""Waiting for a bot to be up: which states count as up and as failed, and how long the wait takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from botctl.waiting import SETTLE_SECONDS, NotUpError, wait_until_up
from botmaker.container.v1 import container_manager_pb2 as pb


class Gone(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


class Clock:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(
    at: Callable[[float], pb.ContainerStatus | None], timeout: float = 60, revived: int = 0
) -> tuple[str, float]:
    """The outcome of the wait, and its duration."""
    clock = Clock()
    done = wait_until_up(
        lambda: at(clock.now),
        restart_count=revived,
        timeout_seconds=timeout,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return done, clock.now


def running(health: pb.HealthStatus = pb.HEALTH_STATUS_UNSPECIFIED, **fields: Any) -> pb.ContainerStatus:
    return pb.ContainerStatus(state=pb.CONTAINER_STATE_RUNNING, health=health, **fields)


def test_without_a_health_check_it_is_up_after_running_for_a_while() -> None:
    done, seconds = waited(lambda _: running())
    assert "running" == done
    assert SETTLE_SECONDS <= seconds < SETTLE_SECONDS + 0.5


def test_with_a_health_check_it_is_up_once_healthy() -> None:
    done, seconds = waited(lambda now: running(pb.HEALTH_STATUS_HEALTHY if now > 30 else pb.HEALTH_STATUS_STARTING))
    assert "healthy" == done
    assert 30 < seconds < 30.5


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (None, "removed"),
        (running(pb.HEALTH_STATUS_UNHEALTHY), "health check fails"),
        (running(restart_count=1), "started again by the restart policy"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_PAUSED), "paused"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_REMOVING), "being removed"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_DEAD), "ended"),
        (
            pb.ContainerStatus(
                state=pb.CONTAINER_STATE_RESTARTING, exit_code=137, exit_reason=pb.EXIT_REASON_OOM_KILLED
            ),
            "exit code 137 .oom_killed.",
        ),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_EXITED, error="no such file"), "no such file"),
    ],
)
def test_a_bot_that_is_not_running_fails_at_once(status: pb.ContainerStatus | None, why: str) -> None:
    with pytest.raises(NotUpError, match=why):
        waited(lambda now: running() if now < 1 else status, timeout=5)


def test_restarts_from_before_the_wait_do_not_count() -> None:
    assert "running" == waited(lambda _: running(restart_count=4), revived=4)[0]


def test_a_bot_that_does_not_become_healthy_in_time_fails() -> None:
    with pytest.raises(NotUpError, match="was not healthy within 5 s"):
        waited(lambda _: running(pb.HEALTH_STATUS_STARTING), timeout=5)


def test_a_short_absence_of_the_service_is_waited_out_and_a_long_one_is_reported() -> None:
    def away(until: float) -> Callable[[float], pb.ContainerStatus]:
        def at(now: float) -> pb.ContainerStatus:
            if now < until:
                raise Gone
            return running()

        return at

    assert "running" == waited(away(3))[0]
    with pytest.raises(Gone):
        waited(away(100), timeout=5)
