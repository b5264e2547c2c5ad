"""Waiting for a bot to be ready: which states count as ready and as failed, and how long the wait takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.waiting import NotReadyError, Probed, Ready, wait_until_ready
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


NEITHER = "its image has neither a health check nor the action ready"
READY, NOT_YET, UNDECLARED = Probed(0, "ok"), Probed(1, "starting"), Probed(None, NEITHER)
RUNNING = Ready("running", f"for 10 s; {NEITHER}")
progress: list[str] = []


def waited(
    at: Callable[[float], pb.ContainerStatus | None],
    probe: Callable[[float], Probed] = lambda _: UNDECLARED,
    timeout: float = 60,
    revived: int = 0,
) -> tuple[Ready, float]:
    """The outcome of the wait, and its duration."""
    clock = Clock()
    progress.clear()
    done = wait_until_ready(
        lambda: at(clock.now),
        lambda: probe(clock.now),
        restart_count=revived,
        timeout_seconds=timeout,
        on_progress=progress.append,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )
    return done, clock.now


def running(health: pb.HealthStatus = pb.HEALTH_STATUS_UNSPECIFIED, **fields: Any) -> pb.ContainerStatus:
    return pb.ContainerStatus(state=pb.CONTAINER_STATE_RUNNING, health=health, **fields)


def test_of_which_nothing_is_declared_is_running_after_ten_seconds_and_the_words_say_so() -> None:
    assert (RUNNING, 10.0) == waited(lambda _: running())
    assert [f"waiting until it has run for 10 s; {NEITHER}"] == progress


def test_with_a_health_check_it_is_healthy_once_that_has_passed_for_three_seconds() -> None:
    def at(now: float) -> pb.ContainerStatus:
        return running(pb.HEALTH_STATUS_HEALTHY if now >= 30 else pb.HEALTH_STATUS_STARTING)

    assert (Ready("healthy"), 33.0) == waited(at)
    assert ["its health check has not passed yet", "healthy, waiting until it has been so for 3 s"] == progress


def test_with_the_action_it_is_ready_once_that_has_succeeded_for_three_seconds() -> None:
    assert (Ready("ready"), 21.0) == waited(lambda _: running(), lambda now: READY if now >= 18 else NOT_YET)
    assert ["its action ready says: starting", "ready, waiting until it has been so for 3 s"] == progress
    flaky = {0: READY, 2: NOT_YET, 4: READY, 6: READY, 8: READY}
    assert (Ready("ready"), 7.0) == waited(lambda _: running(), lambda now: flaky[int(now)])


def test_it_may_end_once_and_has_to_hold_anew() -> None:
    def at(now: float) -> pb.ContainerStatus:
        if now < 9:
            return running(start_time=Timestamp(seconds=1))
        return running(start_time=Timestamp(seconds=9), restart_count=1)

    assert (RUNNING, 19.0) == waited(at)


ONCE_MORE = {"restart_count": 2}
KILLED = {"exit_code": 137, "exit_reason": pb.EXIT_REASON_OOM_KILLED}
LAST = pb.LastExit(exit_code=127, exit_reason=pb.EXIT_REASON_ERROR)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (None, "its container was removed"),
        (running(pb.HEALTH_STATUS_UNHEALTHY), "its health check fails"),
        (running(**ONCE_MORE), "its process ended 2 times, at last for an unknown reason"),
        (
            pb.ContainerStatus(state=pb.CONTAINER_STATE_RESTARTING, **ONCE_MORE, **KILLED),
            "its process ended 2 times, at last with exit code 137 (oom_killed)",
        ),
        (running(restart_count=1, last_exit=LAST), "its command cannot be run: its process ended with exit code 127"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_PAUSED), "its container is paused"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_REMOVING), "its container is removing"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_DEAD), "its container is dead"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_EXITED, **KILLED), "its process ended with exit code 137"),
        (pb.ContainerStatus(state=pb.CONTAINER_STATE_EXITED, error="no such file"), "no such file"),
    ],
)
def test_a_bot_that_will_not_be_ready_fails_at_once(status: pb.ContainerStatus | None, why: str) -> None:
    with pytest.raises(NotReadyError) as caught:
        waited(lambda now: running() if now < 1 else status, timeout=1.5)
    assert str(caught.value).startswith(why)


def test_an_action_that_cannot_be_run_twice_in_the_same_run_fails() -> None:
    cannot = Probed(127, "node: not found")
    with pytest.raises(NotReadyError, match="its action ready cannot be run: node: not found"):
        waited(lambda _: running(), lambda _: cannot, timeout=2)
    # The engine answers for a container that has ended as for a program that is not there.
    stopped = Probed(126, "cannot exec in a stopped container")

    def at(now: float) -> pb.ContainerStatus:
        if now < 0.5:
            return running(start_time=Timestamp(seconds=1))
        return running(start_time=Timestamp(seconds=9), restart_count=1)

    assert (Ready("ready"), 5.5) == waited(at, lambda now: stopped if now < 2 else READY)


def test_restarts_from_before_the_wait_do_not_count() -> None:
    assert RUNNING == waited(lambda _: running(restart_count=4), revived=4)[0]


@pytest.mark.parametrize(
    ("health", "probed", "what"),
    [
        (pb.HEALTH_STATUS_STARTING, READY, "its health check has not passed yet"),
        (pb.HEALTH_STATUS_UNSPECIFIED, NOT_YET, "its action ready says: starting"),
    ],
)
def test_a_bot_that_is_not_ready_in_time_fails_with_what_was_waited_for(
    health: pb.HealthStatus, probed: Probed, what: str
) -> None:
    with pytest.raises(NotReadyError, match=f"it was not ready within 5 s: {what}"):
        waited(lambda _: running(health), lambda _: probed, timeout=5)


def test_a_short_absence_of_the_service_is_waited_out_and_a_long_one_is_reported() -> None:
    def away(until: float) -> Callable[[float], pb.ContainerStatus]:
        def at(now: float) -> pb.ContainerStatus:
            if now < until:
                raise Gone
            return running()

        return at

    assert (RUNNING, 13.0) == waited(away(3))
    with pytest.raises(Gone):
        waited(away(100), timeout=5)
