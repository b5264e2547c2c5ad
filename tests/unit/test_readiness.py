"""When a bot is ready, and when a wait for it ends without that; on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, EngineUnavailableError
from container_manager.maintenance.readiness import Readiness, ReadinessWaiter
from container_manager.maintenance.ready_probe import Probed
from container_manager.model import ContainerState, ContainerStatus, ExitReason, HealthStatus, LastExit
from tests.support.virtual_loop import now, run

BOT = "00000000-0000-4000-8000-000000000001"
NEITHER = "running for 10 s; its image has neither a health check nor the action ready"
State, Health = ContainerState, HealthStatus
Script = Callable[[float], Any]


def at(state: ContainerState | None = State.RUNNING, **fields: Any) -> ContainerStatus:
    return ContainerStatus("c", BOT, f"botmaker-{BOT}", state, "image", "id", 1, **{"start_time_ns": 5, **fields})


def timeline(*steps: tuple[float, Any]) -> Script:
    """The last value whose second has come."""
    return lambda second: [value for begins, value in steps if begins <= second][-1]


class Waited:
    """The outcome of a wait for a bot with this course of events."""

    def __init__(self, status: Script, probe: Script = lambda _: None, **how: Any) -> None:
        self.progress: list[str] = []
        self.probes: list[float] = []
        self._status = status
        self._probe = probe
        self.outcome, self.seconds = run(self._wait(how))

    async def _wait(self, how: dict[str, Any]) -> tuple[Readiness, float]:
        waiter = ReadinessWaiter(self._status_of, self._run_probe)
        outcome = await waiter.ready(BOT, how.pop("timeout", 120), on_progress=self.progress.append, **how)
        return outcome, now()

    async def _status_of(self, bot_id: str, _deadline: Deadline) -> ContainerStatus | None:
        assert BOT == bot_id
        status = self._status(now())
        if isinstance(status, Exception):
            raise status
        return status

    async def _run_probe(self, _container: ContainerStatus, _deadline: Deadline) -> Probed | None:
        self.probes.append(now())
        probed: Probed | Exception | None = self._probe(now())
        if isinstance(probed, Exception):
            raise probed
        return probed


READY, NOT_YET = Probed(0, '{"ready":true}'), Probed(1, '{"ready":false}')


def test_a_bot_with_a_health_check_is_ready_once_that_has_passed_for_three_seconds() -> None:
    waited = Waited(timeline((0, at(health=Health.STARTING)), (18, at(health=Health.HEALTHY))))
    assert (Readiness(ready=True, message="healthy"), 21.0) == (waited.outcome, waited.seconds)
    assert ["its health check has not passed yet", "it has to stay so for 3 s: healthy"] == waited.progress
    assert [] == waited.probes, "the health check is asked, and nothing else"


def test_a_bot_whose_image_declares_the_action_is_ready_once_that_has_succeeded_for_three_seconds() -> None:
    waited = Waited(timeline((0, at())), timeline((0, NOT_YET), (18, READY)))
    assert (Readiness(ready=True, message="ready"), 21.0) == (waited.outcome, waited.seconds)
    assert ['its action ready says: {"ready":false}', "it has to stay so for 3 s: ready"] == waited.progress
    assert [2.0 * number for number in range(11)] == waited.probes


def test_a_bot_of_which_nothing_is_declared_is_ready_after_running_for_ten_seconds_and_the_words_say_so() -> None:
    waited = Waited(timeline((0, at())))
    assert (Readiness(ready=True, message=NEITHER), 10.0) == (waited.outcome, waited.seconds)


@pytest.mark.parametrize("what", ["health", "action"])
def test_what_fails_in_between_has_to_hold_anew(what: str) -> None:
    if what == "health":
        good, bad = at(health=Health.HEALTHY), at(health=Health.STARTING)
        waited = Waited(timeline((0, good), (2, bad), (4, good)))
    else:
        waited = Waited(timeline((0, at())), timeline((0, READY), (2, NOT_YET), (4, READY)))
    assert (True, 7.0) == (waited.outcome.ready, waited.seconds)


def test_a_bot_may_end_once_and_has_to_hold_anew() -> None:
    restarting = at(State.RESTARTING, restart_count=1, exit_code=3)
    again = at(restart_count=1, start_time_ns=6)
    waited = Waited(timeline((0, at()), (9, restarting), (9.5, again)))
    assert (Readiness(ready=True, message=NEITHER), 19.5) == (waited.outcome, waited.seconds)
    assert "its process has ended and is being started again" in waited.progress
    unseen = Waited(timeline((0, at()), (9, again)))
    assert (True, 19.0) == (unseen.outcome.ready, unseen.seconds)


LAST = LastExit(3, ExitReason.ERROR, 7)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (at(State.RESTARTING, restart_count=2, exit_code=3), "its process ended 2 times, at last with exit code 3"),
        (at(restart_count=2, last_exit=LAST), "its process ended 2 times, at last with exit code 3"),
        (at(restart_count=5), "its process ended 5 times, at last for an unknown reason"),
        (
            at(State.RESTARTING, restart_count=1, exit_code=127),
            "its command cannot be run: it ended with exit code 127",
        ),
        (at(restart_count=1, last_exit=LastExit(126, ExitReason.ERROR, 7)), "its command cannot be run: it ended"),
        (at(State.CREATED, error="no such file"), "it could not be started: no such file"),
        (at(State.CREATED), "its container is created"),
        (at(State.EXITED, exit_code=0), "its process ended with exit code 0"),
        (at(State.EXITED, error="port is in use"), "it could not be started: port is in use"),
        (at(State.PAUSED), "its container is paused"),
        (at(State.REMOVING), "its container is removing"),
        (at(State.DEAD), "its container is dead"),
        (at(None), "its container is in an unknown state"),
        (at(health=Health.UNHEALTHY), "its health check fails"),
        (None, "its container was removed"),
    ],
)
def test_what_will_not_be_ready_ends_the_wait_at_once(status: ContainerStatus | None, message: str) -> None:
    waited = Waited(timeline((0, at()), (4, status)), timeline((0, NOT_YET)))
    assert (False, 4.0) == (waited.outcome.ready, waited.seconds)
    assert waited.outcome.message.startswith(message)


@pytest.mark.parametrize("code", [126, 127])
def test_an_action_that_cannot_be_run_twice_in_the_same_run_ends_the_wait(code: int) -> None:
    cannot = Probed(code, "node: not found")
    waited = Waited(timeline((0, at())), timeline((0, cannot)))
    expected = Readiness(ready=False, message="its action ready cannot be run: node: not found")
    assert (expected, 2.0) == (waited.outcome, waited.seconds)
    assert ["its action ready cannot be run: node: not found"] == waited.progress
    once = Waited(timeline((0, at())), timeline((0, cannot), (2, READY)))
    assert (True, 5.0) == (once.outcome.ready, once.seconds)


def test_an_action_that_comes_when_the_container_has_just_ended_says_nothing_of_the_next_run() -> None:
    """The engine answers for a container that has ended as for a program that is not there."""
    stopped = Probed(126, "cannot exec in a stopped container")
    again = at(restart_count=1, start_time_ns=6)
    waited = Waited(timeline((0, at()), (0.5, again)), timeline((0, stopped), (2.5, READY)))
    assert (True, 5.5) == (waited.outcome.ready, waited.seconds)


def test_ends_from_before_the_start_do_not_count() -> None:
    waited = Waited(timeline((0, at(restart_count=7))))
    assert waited.outcome.ready
    ended = Waited(timeline((0, at(restart_count=7))), restart_count=5)
    assert not ended.outcome.ready


def test_after_the_time_out_the_message_says_what_was_waited_for() -> None:
    waited = Waited(timeline((0, at())), timeline((0, NOT_YET)), timeout=30)
    expected = 'it was not ready within 30 s: its action ready says: {"ready":false}'
    assert (Readiness(ready=False, message=expected), 30.0) == (waited.outcome, waited.seconds)
    short = Waited(timeline((0, at())), timeline((0, READY)), timeout=2)
    assert "it was not ready within 2 s: it has to stay so for 3 s: ready" == short.outcome.message


def test_a_probe_that_had_no_worker_says_nothing_of_the_bot() -> None:
    none = CapacityExceededError("no worker came free")
    between = Waited(timeline((0, at())), timeline((0, READY), (2, none)))
    assert (True, 3.0) == (between.outcome.ready, between.seconds)
    first = Waited(timeline((0, at())), timeline((0, none), (2, READY)))
    assert (True, 5.0) == (first.outcome.ready, first.seconds)
    assert "its action ready has not run yet: no worker came free" in first.progress


def test_an_engine_that_cannot_be_reached_is_waited_for() -> None:
    away = EngineUnavailableError("the engine is away")
    waited = Waited(timeline((0, at()), (5, away), (20, at())))
    assert (True, 30.0) == (waited.outcome.ready, waited.seconds)
    assert "its state is unknown: the engine is away" in waited.progress
