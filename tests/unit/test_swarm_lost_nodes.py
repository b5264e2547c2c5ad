"""Stops, restarts and removes whose node is down or is lost meanwhile: what is not certain, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest

from container_manager.backends.swarm import records
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError, InvalidStateError, NodeUnavailableError
from container_manager.model import ContainerState
from container_manager.operation import carry_out
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_operations import create, left, run, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """The engine of machine-1."""
    engine.on("GET", "/info", Json({"Swarm": {"NodeID": "node1"}}))
    return engine


def test_a_stop_on_a_node_that_is_down_is_not_certain_until_it_is_back(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    # The swarm forgets the task of a service without replicas on a node that is down.
    world.at_stop = [None]
    world.set_node("node1", "down")
    for _ in range(2):
        with pytest.raises(NodeUnavailableError) as caught:
            carry_out(lifecycle.stop_container(BOT))
        assert {"bot_id": BOT, "node": "machine-1"} == caught.value.metadata
        shown = status(lifecycle)
        assert (ContainerState.RUNNING, "machine-1", True) == (shown.state, shown.node, shown.node_unreachable)
    world.set_node("node1", "ready")
    carry_out(lifecycle.stop_container(BOT))
    assert ContainerState.EXITED is status(lifecycle).state


@pytest.mark.parametrize("shows", [{"State": "running"}, None], ids=["the task stays", "the swarm forgets the task"])
def test_a_remove_on_a_node_that_is_down_is_not_certain_until_it_is_back_and_the_name_stays_taken(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch, shows: dict[str, str] | None
) -> None:
    """As when the managers elect a leader meanwhile."""
    monkeypatch.setattr("container_manager.backends.swarm.creation._NAME_WAIT_SECONDS", 0.05)
    run(lifecycle)
    world.at_stop = [shows]
    world.set_node("node1", "down")
    for _ in range(2):
        with pytest.raises(NodeUnavailableError, match="it is removed when the node is back"):
            carry_out(lifecycle.remove_container(BOT))
        world.tasks.clear()
    assert (ContainerState.REMOVING, True) == (status(lifecycle).state, status(lifecycle).node_unreachable)
    assert [status(lifecycle)] == lifecycle.list_managed_containers()
    assert lifecycle.containers_of_bot(BOT)
    with pytest.raises(NodeUnavailableError):
        create(lifecycle)
    for refused in (lifecycle.start_container, lifecycle.restart_container):
        with pytest.raises(InvalidStateError, match="is being removed"):
            carry_out(refused(BOT))
    with pytest.raises(NodeUnavailableError):
        carry_out(lifecycle.stop_container(BOT))
    assert ContainerState.REMOVING is status(lifecycle).state
    world.set_node("node1", "ready")
    # At once, although it takes a while until the end is certain.
    with pytest.raises(InvalidStateError, match="is being removed"):
        next(lifecycle.start_container(BOT))
    carry_out(lifecycle.remove_container(BOT))
    create(lifecycle)


def test_a_start_waits_no_longer_than_its_caller_for_what_a_stop_has_left(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.swarm.left_containers._MISSED_SECONDS", 100)
    run(lifecycle)
    world.at_stop = [None]
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError):
        carry_out(lifecycle.stop_container(BOT))
    world.set_node("node1", "ready")
    with pytest.raises(EngineTimeoutError):
        carry_out(lifecycle.start_container(BOT, deadline=Deadline(0.05)))
    assert 0 == world.replicas


def test_a_remove_does_not_wait_for_a_bot_that_was_created_anew(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    """Through another service, as soon as the former one was gone."""
    run(lifecycle)
    (service,) = world.services.values()
    former, body = service["ID"], service["Spec"]
    remove = world.remove_service

    def removed(service_id: str) -> bool:
        is_removed = remove(service_id)
        if service_id == former:
            world.start(world.services[world.add(body)])
        return is_removed

    world.remove_service = removed  # type: ignore[method-assign]
    carry_out(lifecycle.remove_container(BOT))
    assert former not in world.services
    assert ContainerState.RUNNING is status(lifecycle).state


@pytest.mark.parametrize("name", ["stop_container", "remove_container"])
def test_a_bot_that_another_service_removes_meanwhile_is_gone(
    world: SwarmWorld, lifecycle: SwarmLifecycle, name: str
) -> None:
    run(lifecycle)
    (service,) = world.services.values()
    world.on_update = lambda: world.remove_service(service["ID"])
    carry_out(getattr(lifecycle, name)(BOT))
    assert {} == world.services


def test_a_remove_that_another_service_was_faster_with_names_the_node_that_the_bot_may_still_run_on(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    (service,) = world.services.values()
    world.at_stop = [{"State": "running"}]
    world.on_update = lambda: (world.remove_service(service["ID"]), world.set_node("node1", "down"))
    with pytest.raises(NodeUnavailableError):
        carry_out(lifecycle.remove_container(BOT))


@pytest.mark.parametrize("is_pinned", [True, False], ids=["pinned", "floating"])
def test_a_start_of_a_started_bot_is_not_certain_while_the_only_node_that_may_run_it_is_down(
    world: SwarmWorld, lifecycle: SwarmLifecycle, is_pinned: bool
) -> None:
    run(lifecycle)
    (service,) = world.services.values()
    service["Spec"]["Labels"] = records.confirmed(service["Spec"])["Labels"]
    if is_pinned:
        service["Spec"]["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==node1"]}
    carry_out(lifecycle.start_container(BOT))
    # A leader that is new has not heard of it yet.
    world.set_node("node1", "unknown")
    carry_out(lifecycle.start_container(BOT))
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="it is started again when") if is_pinned else nullcontext():
        carry_out(lifecycle.start_container(BOT))
    assert 1 == world.replicas


@pytest.mark.parametrize("seen", ["running", "orphaned"])
def test_of_two_copies_a_stop_is_certain_only_when_both_nodes_have_answered(
    world: SwarmWorld, lifecycle: SwarmLifecycle, seen: str
) -> None:
    """After a network was cut, the copy that is cut off still runs; after a day, the swarm gives its task up."""
    run(lifecycle)
    (service,) = world.services.values()
    world.start(service)
    first, second = world.tasks.values()
    first["NodeID"], second["NodeID"] = "node2", "node1"
    first["Status"], first["script"] = {"State": seen}, iter(())
    world.set_node("node2", "down")
    world.at_stop = [None]
    for _ in range(2):
        with pytest.raises(NodeUnavailableError) as caught:
            carry_out(lifecycle.stop_container(BOT))
        assert "machine-2" == caught.value.metadata["node"]
        assert (ContainerState.RUNNING, "machine-2", True) == (
            status(lifecycle).state,
            status(lifecycle).node,
            status(lifecycle).node_unreachable,
        )
    world.set_node("node2", "ready")
    carry_out(lifecycle.stop_container(BOT))


def test_a_container_that_a_lost_node_may_still_start_has_not_ended(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    (each,) = world.tasks.values()
    each["Status"], each["script"] = {"State": "preparing"}, iter(())
    world.set_node("node1", "down")
    world.at_stop = [None]
    for _ in range(2):
        with pytest.raises(NodeUnavailableError):
            carry_out(lifecycle.stop_container(BOT))


def test_a_stop_with_a_longer_grace_period_is_recorded_although_the_node_is_down(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="it ends when the node is back"):
        carry_out(lifecycle.stop_container(BOT, 60))
    assert (0, {"node1"}, []) == (world.replicas, left(world), engine.seen("POST", "*"))
    with pytest.raises(NodeUnavailableError, match="it is removed when the node is back"):
        carry_out(lifecycle.remove_container(BOT, 60))
    assert ContainerState.REMOVING is status(lifecycle).state


def test_a_node_that_is_lost_in_a_longer_grace_period_is_named_and_the_stop_recorded(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    engine.on("POST", "/containers/c1/stop", Hang(Cut()))
    operation = lifecycle.stop_container(BOT, 60)
    next(operation)
    world.set_node("node1", "down")
    engine.release()
    with pytest.raises(NodeUnavailableError) as caught:
        carry_out(operation)
    assert ("machine-1", 0, {"node1"}) == (caught.value.metadata["node"], world.replicas, left(world))


def test_a_bot_that_moves_in_a_longer_grace_period_is_stopped_where_it_is_then(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    world.nodes["node2"]["Status"]["State"] = "ready"
    engine.on("POST", "/containers/c1/stop", Hang(NO_CONTENT))
    operation = lifecycle.stop_container(BOT, 60)
    next(operation)
    (task,) = world.tasks.values()
    task["NodeID"] = "node2"
    world.at_stop = [{"State": "running"}]
    engine.release()
    while world.replicas:
        next(operation)
    world.set_node("node2", "down")
    with pytest.raises(NodeUnavailableError):
        carry_out(operation)
    assert {"node2"} == left(world)


def test_a_restart_whose_node_is_down_changes_nothing(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    run(lifecycle)
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="nothing has been changed"):
        carry_out(lifecycle.restart_container(BOT))
    assert 1 == world.replicas


def test_a_restart_whose_node_is_lost_meanwhile_says_that_the_bot_ends(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    operation = lifecycle.restart_container(BOT)
    next(operation)
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="has to be started then"):
        carry_out(operation)
    assert 0 == world.replicas


def test_the_task_that_a_lost_node_may_still_start_keeps_a_remove_from_being_certain(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    (task,) = world.tasks.values()
    task["Status"], task["script"] = {"State": "preparing"}, iter(())
    world.set_node("node1", "down")
    world.at_stop = [None]
    with pytest.raises(NodeUnavailableError):
        carry_out(lifecycle.remove_container(BOT))
