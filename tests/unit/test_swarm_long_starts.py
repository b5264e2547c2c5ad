"""Starts on a swarm that take long: their callers leave, and others end the bot meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from container_manager.backends.swarm import records, runs
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.records import Phase, phase_of, replicas_of
from container_manager.backends.swarm.upkeep import is_due
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    OperationCancelledError,
    OperationInProgressError,
)
from container_manager.model import ContainerState
from container_manager.operation import carry_out
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_operations import create, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")

Json = dict[str, Any]
MakeLifecycle = Callable[..., SwarmLifecycle]

PULLS = {"State": "preparing"}
RUNS = {"State": "running", "ContainerStatus": {"ContainerID": "c1", "PID": 7}}


@pytest.fixture
def world() -> SwarmWorld:
    """The bot's node pulls the image for ever."""
    world = SwarmWorld()
    world.script, world.at_stop = [PULLS], [None]
    return world


@pytest.fixture
def lifecycle(make_lifecycle: MakeLifecycle, monkeypatch: pytest.MonkeyPatch) -> SwarmLifecycle:
    """With a bot that was created."""
    monkeypatch.setattr(runs, "_SERVICE_SECONDS", 0.02)
    lifecycle = make_lifecycle()
    create(lifecycle)
    return lifecycle


def begin(lifecycle: SwarmLifecycle, seconds: float = 0.05) -> None:
    """A start whose caller leaves before the image has come."""
    with pytest.raises(EngineTimeoutError, match="deadline") as caught:
        carry_out(lifecycle.start_container(BOT, deadline=Deadline(seconds)))
    assert caught.value.start_sent


def state(world: SwarmWorld) -> tuple[int, Phase]:
    (service,) = world.services.values()
    return replicas_of(service), phase_of(service)


def updates(world: SwarmWorld) -> int:
    return world.calls.count("update_service")


def test_a_start_ends_with_its_caller_and_is_not_withdrawn(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    begin(lifecycle)
    assert (1, Phase.STARTING) == state(world)
    cancelled = Deadline()
    operation = lifecycle.restart_container(BOT, deadline=cancelled)
    next(operation)
    cancelled.cancel()
    with pytest.raises(OperationCancelledError) as caught:
        carry_out(operation)
    assert caught.value.start_sent
    assert (1, Phase.STARTING) == state(world)
    wait_until(lambda: lifecycle._runs._watch._thread is None, "nobody looks for its first run")


@pytest.mark.parametrize("call", ["start", "restart", "stop", "remove"])
def test_the_next_call_after_a_start_whose_caller_has_left_is_carried_out(
    world: SwarmWorld, lifecycle: SwarmLifecycle, call: str
) -> None:
    begin(lifecycle)
    before = updates(world)
    world.script = [RUNS]
    for task in world.tasks.values():
        task["script"] = iter([PULLS, RUNS] if call == "start" else [PULLS])
    carry_out(getattr(lifecycle, f"{call}_container")(BOT))
    if call == "remove":
        assert {} == world.services
        return
    assert (ContainerState.EXITED if call == "stop" else ContainerState.RUNNING) is status(lifecycle).state
    # The start sends no second one.
    assert call != "start" or before == updates(world)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (RUNS, (1, Phase.STARTED)),
        ({"State": "rejected", "Err": "No such image: registry.test/bot:1"}, (0, Phase.STOPPED)),
        ({"State": "pending", "Err": "no suitable node"}, (0, Phase.STOPPED)),
    ],
    ids=["runs", "fails", "finds no node"],
)
def test_a_start_whose_caller_has_left_is_seen_through_by_the_upkeep_of_any_service(
    world: SwarmWorld,
    lifecycle: SwarmLifecycle,
    make_lifecycle: MakeLifecycle,
    outcome: Json,
    expected: tuple[int, Phase],
) -> None:
    begin(lifecycle)
    (task,) = world.tasks.values()
    task["Status"], task["script"] = outcome, iter(())
    (service,) = world.services.values()
    assert is_due(service, world.list_tasks(Deadline()), world.nodes)
    make_lifecycle().upkeep.attend(service)
    assert expected == state(world)


def scale_to_nothing(world: SwarmWorld, _: SwarmLifecycle) -> None:
    """As by hand."""
    (service,) = world.services.values()
    service["Spec"]["Mode"] = {"Replicated": {"Replicas": 0}}


def stop(_: SwarmWorld, other: SwarmLifecycle) -> None:
    carry_out(other.stop_container(BOT))


def remove(world: SwarmWorld, _: SwarmLifecycle) -> None:
    world.services.clear()


def begin_anew(world: SwarmWorld, _: SwarmLifecycle) -> None:
    (service,) = world.services.values()
    service["Spec"] = records.started(records.stopped(service["Spec"]), 0, "another start")


@pytest.mark.parametrize("seen", [[], [{"State": "shutdown", "Message": "shutdown"}]], ids=["gone", "shut down"])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (scale_to_nothing, OperationInProgressError),
        (stop, OperationInProgressError),
        (remove, ContainerNotFoundError),
        (begin_anew, OperationInProgressError),
    ],
)
def test_a_start_ends_when_somebody_else_has_ended_it(
    world: SwarmWorld,
    lifecycle: SwarmLifecycle,
    make_lifecycle: MakeLifecycle,
    *,
    change: Callable[[SwarmWorld, SwarmLifecycle], None],
    error: type[ContainerManagerError],
    seen: list[Json],
) -> None:
    operation = lifecycle.start_container(BOT, deadline=Deadline(60))
    next(operation)
    (task,) = world.tasks.values()
    world.at_stop = [*seen, None]
    change(world, make_lifecycle())
    task["script"] = iter([*seen, None])
    before = state(world) if world.services else None
    with pytest.raises(error) as caught:
        carry_out(operation)
    assert {"bot_id": BOT} == caught.value.metadata or error is ContainerNotFoundError
    assert caught.value.start_sent is (error is OperationInProgressError)
    assert before == (state(world) if world.services else None)


def test_a_start_whose_task_is_late_waits_for_it_also_while_a_leader_is_elected(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    operation = lifecycle.start_container(BOT, deadline=Deadline(60))
    next(operation)
    (service,) = world.services.values()
    world.tasks.clear()
    looked = len(world.calls)
    world.faults = [EngineUnavailableError("no leader"), EngineTimeoutError("too slow")] * 20
    for _ in range(3):
        next(operation)
    world.faults = []
    assert "inspect_service" in world.calls[looked:]
    world.script = [RUNS]
    world.start(service)
    carry_out(operation)
    assert ContainerState.RUNNING is status(lifecycle).state
