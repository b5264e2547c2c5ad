"""A bot's life on a swarm to its stop and removal, and what a stop records of how the bot has ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from container_manager.backends.swarm import runs
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.upkeep import is_due
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    NotSupportedByBackendError,
    StartFailedError,
)
from container_manager.model import ContainerState, ExitReason
from container_manager.operation import Operation, carry_out
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_operations import GRACE_SECONDS, create, run, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")


def test_a_bots_life(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    made = create(lifecycle)
    assert ContainerState.CREATED is status(lifecycle).state
    assert made == carry_out(lifecycle.start_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state
    before = len(world.calls)
    carry_out(lifecycle.start_container(BOT))
    assert "update_service" not in world.calls[before:]
    assert made == carry_out(lifecycle.stop_container(BOT))
    stopped = status(lifecycle)
    assert (ContainerState.EXITED, 143, ExitReason.KILLED) == (
        stopped.state,
        stopped.exit_code,
        stopped.exit_reason,
    )
    carry_out(lifecycle.restart_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state
    assert made == carry_out(lifecycle.remove_container(BOT))
    assert lifecycle.get_container_status(BOT) is None
    assert "" == carry_out(lifecycle.remove_container(BOT))
    assert "" == carry_out(lifecycle.stop_container(BOT))
    with pytest.raises(ContainerNotFoundError):
        carry_out(lifecycle.start_container(BOT))


def test_a_remove_is_not_certain_while_the_swarm_keeps_the_ended_tasks_and_is_repeated_then(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(lifecycle)
    carry_out(lifecycle.start_container(BOT))
    ended, forgotten = world.at_stop
    world.at_stop = [ended]
    monkeypatch.setattr(runs, "END_SECONDS", 0.0)
    with pytest.raises(EngineTimeoutError, match="has ended and is not removed yet"):
        carry_out(lifecycle.remove_container(BOT))
    assert ContainerState.REMOVING is status(lifecycle).state
    monkeypatch.undo()
    for task in world.tasks.values():
        task["script"] = iter([ended, forgotten])
    assert made == carry_out(lifecycle.remove_container(BOT))
    assert not world.services


def test_changes_by_others_meanwhile_are_taken_into_account(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    create(lifecycle)
    world.conflicts = 5
    carry_out(lifecycle.start_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state
    world.conflicts = 1000
    with pytest.raises(EngineUnavailableError, match="try again"):
        carry_out(lifecycle.stop_container(BOT))
    world.conflicts = 0
    assert ContainerState.RUNNING is status(lifecycle).state


def test_a_task_that_is_forgotten_before_it_was_seen_to_end_leaves_no_exit_code(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    world.at_stop = [None]
    carry_out(lifecycle.stop_container(BOT))
    shown = status(lifecycle)
    assert (ContainerState.EXITED, None) == (shown.state, shown.exit_code)
    assert shown.finish_time_ns is not None


@pytest.fixture
def revive(world: SwarmWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is restarted in the moment of each stop. The swarm lets it run until the service changes again."""
    end = world.end

    def revived(service_id: str) -> None:
        end(service_id)
        world.tasks.clear()
        world.start(world.services[service_id])
        (task,) = world.tasks.values()
        task |= {"Status": {"State": "running"}, "script": iter(())}

    monkeypatch.setattr(world, "end", revived)


def attended(lifecycle: SwarmLifecycle, world: SwarmWorld, operation: Operation[Any]) -> None:
    """Carry out an operation, while its bot is attended to as soon as it waits for what was revived."""
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(carry_out, operation)
        wait_until(lambda: world.replicas == 0 and world.tasks, "a task was revived")
        assert not work.done()
        (service,) = world.services.values()
        assert is_due(service, world.list_tasks(None), world.nodes)
        lifecycle.upkeep.attend(service)
        work.result(30)


@pytest.mark.usefixtures("revive")
@pytest.mark.parametrize("by", ["stop_container", "start_container"])
def test_a_task_that_is_restarted_in_the_moment_of_a_stop_is_ended(
    world: SwarmWorld, lifecycle: SwarmLifecycle, by: str
) -> None:
    """A start meets what a stop that was given up has left."""
    run(lifecycle)
    operation = lifecycle.stop_container(BOT)
    if by == "stop_container":
        attended(lifecycle, world, operation)
        assert not world.tasks
        return
    while world.replicas != 0:
        next(operation)
    operation.close()
    attended(lifecycle, world, lifecycle.start_container(BOT))
    assert 1 == world.replicas


@pytest.mark.usefixtures("revive")
def test_a_task_that_is_restarted_in_the_moment_of_a_failed_start_is_ended(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    """Else the swarm would start it on and on."""
    create(lifecycle)
    world.script = [{"State": "rejected", "Err": "No such image: registry.test/bot:1"}]
    with pytest.raises(StartFailedError):
        carry_out(lifecycle.start_container(BOT))
    assert 1 == len(world.tasks)
    (service,) = world.services.values()
    assert is_due(service, world.list_tasks(None), world.nodes)
    lifecycle.upkeep.attend(service)
    assert (0, {}) == (world.replicas, world.tasks)
    (service,) = world.services.values()
    assert not is_due(service, world.list_tasks(None), world.nodes)


def test_another_grace_period_is_refused_where_the_nodes_engine_is_not_named(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    for change in (lifecycle.stop_container, lifecycle.restart_container, lifecycle.remove_container):
        with pytest.raises(NotSupportedByBackendError) as caught:
            carry_out(change(BOT, 0))
        assert "grace_period" == caught.value.metadata["field"]
    assert ContainerState.RUNNING is status(lifecycle).state
    carry_out(lifecycle.stop_container(BOT, GRACE_SECONDS))


@pytest.mark.parametrize("turned", [False, True])
def test_a_stop_records_the_end_of_the_newest_run_in_whatever_order_tasks_are_listed(
    world: SwarmWorld, lifecycle: SwarmLifecycle, turned: bool
) -> None:
    run(lifecycle)
    (crashed,) = world.tasks.values()
    crashed["Status"] = {
        "State": "failed",
        "Err": "task: non-zero exit (1)",
        "ContainerStatus": {"ContainerID": "c0", "ExitCode": 1},
    }
    crashed["script"] = iter(())
    (service,) = world.services.values()
    world.start(service)
    world.list_tasks(None)
    if turned:
        world.tasks = dict(reversed(world.tasks.items()))
    at_stop = world.at_stop
    world.at_stop = []
    operation = lifecycle.stop_container(BOT)
    next(operation)
    newest = max(world.tasks.values(), key=lambda each: each["CreatedAt"])
    newest["script"] = iter(at_stop[:1])
    carry_out(operation)
    assert (143, ExitReason.KILLED) == (status(lifecycle).exit_code, status(lifecycle).exit_reason)


def test_a_stop_in_a_crash_loop_records_the_crash_and_not_the_task_that_waits(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    (crashed,) = world.tasks.values()
    ended = {"ContainerID": "c0", "ExitCode": 3}
    crashed["Status"] = {"State": "failed", "Err": "task: non-zero exit (3)", "ContainerStatus": ended}
    crashed["script"] = iter(())
    world.script = [{"State": "ready"}]
    (service,) = world.services.values()
    world.start(service)
    waiting = max(world.tasks.values(), key=lambda each: each["CreatedAt"])
    world.at_stop = []
    operation = lifecycle.stop_container(BOT)
    next(operation)
    never_ran = {"ContainerID": "c1", "ExitCode": 0}
    waiting["script"] = iter([{"State": "shutdown", "ContainerStatus": never_ran}])
    carry_out(operation)
    assert (3, ExitReason.ERROR) == (status(lifecycle).exit_code, status(lifecycle).exit_reason)


class Deaf:
    """Managers that do not answer."""

    def list_tasks(self, *_: object, **__: object) -> list[dict[str, Any]]:
        raise EngineUnavailableError("no leader")


def test_of_two_services_that_stop_one_bot_neither_makes_the_swarm_forget_its_container(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle]
) -> None:
    first, second = make_lifecycle(), make_lifecycle()
    run(first)
    world.at_stop = [{"State": "running"}]
    one, other = first.stop_container(BOT), second.stop_container(BOT)
    service = second.services.find(BOT, Deadline())
    next(one)
    # The other one has read the service before the first has changed it.
    second.services.find = lambda *_: service  # type: ignore[method-assign]
    next(other)
    assert 1 == len(world.tasks)
    (task,) = world.tasks.values()
    # Only the first sees the end.
    second._runs._watch._engine = Deaf()  # type: ignore[assignment]
    task["script"] = iter(SwarmWorld().at_stop)
    carry_out(one)
    second._runs._watch._engine = world  # type: ignore[assignment]
    del second.services.find
    carry_out(other)
    assert (ContainerState.EXITED, 143) == (status(first).state, status(first).exit_code)
