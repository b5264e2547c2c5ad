"""What is certain of a container that a swarm has forgotten, and that a stop has left on a node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from container_manager.backends.swarm import left_containers
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.errors import NodeUnavailableError, StartFailedError
from container_manager.model import ContainerConfig, ContainerState
from container_manager.operation import carry_out
from tests.support.fake_engine import FakeEngine, Json
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT, IMAGE
from tests.unit.swarm_operations import GRACE_SECONDS, left, run, status
from tests.unit.swarm_world import SwarmWorld


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """The engine of machine-1."""
    engine.on("GET", "/info", Json({"Swarm": {"NodeID": "node1"}}))
    return engine


def stop_without_its_node(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    """Stop the bot, which runs on node1, while that is down; the swarm forgets its task."""
    world.at_stop = [None]
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="it ends when the node is back"):
        carry_out(lifecycle.stop_container(BOT))
    assert {} == world.tasks
    world.at_stop = SwarmWorld().at_stop


def test_a_remove_after_a_stop_that_is_not_certain_is_not_either_and_is_carried_out_when_the_node_is_back(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.swarm.creation._NAME_WAIT_SECONDS", 0.05)
    run(lifecycle)
    stop_without_its_node(world, lifecycle)
    for _ in range(2):
        with pytest.raises(NodeUnavailableError, match="it is removed when the node is back") as caught:
            carry_out(lifecycle.remove_container(BOT))
        assert "machine-1" == caught.value.metadata["node"]
    assert (ContainerState.REMOVING, True) == (status(lifecycle).state, status(lifecycle).node_unreachable)
    with pytest.raises(NodeUnavailableError):
        carry_out(lifecycle.create_container(BOT, ContainerConfig(image=IMAGE)))
    world.set_node("node1", "ready")

    def is_gone() -> bool:
        for service in world.list_services(None):
            lifecycle.upkeep.attend(service)
        return not world.services

    wait_until(is_gone, "the upkeep has removed the bot")


@pytest.mark.parametrize("change", ["stop_container", "remove_container"])
def test_a_container_whose_end_nobody_has_seen_keeps_its_grace_period(
    world: SwarmWorld, lifecycle: SwarmLifecycle, change: str
) -> None:
    run(lifecycle)
    world.at_stop = [None]
    began = time.monotonic()
    carry_out(getattr(lifecycle, change)(BOT))
    assert time.monotonic() - began > GRACE_SECONDS


@pytest.mark.parametrize("change", ["stop_container", "remove_container"])
def test_the_engine_of_its_node_says_whether_a_forgotten_container_runs(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine, change: str
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    (key,) = world.services
    world.at_stop = [None]
    engine.on("GET", "/containers/json", Json([{"Id": "c1"}]))
    ended = threading.Event()
    stopping = threading.Thread(target=lambda: (carry_out(getattr(lifecycle, change)(BOT)), ended.set()))
    stopping.start()
    # Longer than one would wait without this answer.
    assert not ended.wait(GRACE_SECONDS + 1)
    (request, *_) = engine.seen("GET", "/containers/json")
    assert f'{{"label": ["com.docker.swarm.service.id={key}"]}}' == request.query["filters"]
    if change == "stop_container":
        assert ContainerState.RUNNING is status(lifecycle).state
    engine.on("GET", "/containers/json", Json([]))
    assert ended.wait(10)
    stopping.join()


def test_the_engine_of_another_node_says_nothing_about_a_forgotten_container(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    """The operator has named the wrong one."""
    engine.on("GET", "/info", Json({"Swarm": {"NodeID": "node9"}}))
    engine.on("GET", "/containers/json", Json([]))
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    world.at_stop = [None]
    began = time.monotonic()
    carry_out(lifecycle.stop_container(BOT))
    assert time.monotonic() - began > GRACE_SECONDS


def test_a_forgotten_container_on_a_node_that_is_lost_before_its_grace_period_is_over_has_not_ended(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    world.at_stop = [None]
    operation = lifecycle.stop_container(BOT)
    while not left(world) or world.tasks:
        next(operation)
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError):
        carry_out(operation)
    assert (ContainerState.RUNNING, {"node1"}) == (status(lifecycle).state, left(world))


@pytest.mark.parametrize(("seconds", "is_told"), [(5, True), (100, False)], ids=["a call was told", "nobody looked"])
def test_the_grace_period_of_a_forgotten_container_counts_from_when_its_node_is_back(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch, seconds: int, is_told: bool
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(left_containers, "time", clock)
    run(lifecycle)
    world.at_stop = [None]
    operation = lifecycle.stop_container(BOT)
    while not lifecycle._left._searches:
        next(operation)
    world.set_node("node1", "down")
    if is_told:
        with pytest.raises(NodeUnavailableError):
            carry_out(operation)
    world.set_node("node1", "ready")
    began = time.monotonic()
    clock.monotonic = lambda: time.monotonic() - began + seconds
    carry_out(lifecycle.stop_container(BOT))
    assert time.monotonic() - began > GRACE_SECONDS


@pytest.mark.parametrize("fails", [False, True], ids=["starts", "fails"])
def test_a_start_and_its_withdrawal_keep_where_a_stop_has_left_a_container(
    world: SwarmWorld, lifecycle: SwarmLifecycle, fails: bool
) -> None:
    run(lifecycle)
    stop_without_its_node(world, lifecycle)
    world.set_node("node2", "ready")
    if fails:
        world.script = [{"State": "rejected", "Err": "No such image: x"}]
        with pytest.raises(StartFailedError):
            carry_out(lifecycle.start_container(BOT))
    else:
        carry_out(lifecycle.start_container(BOT))
        for task in world.tasks.values():
            task["NodeID"] = "node2"
    assert {"node1"} == left(world)
    with pytest.raises(NodeUnavailableError) as caught:
        carry_out(lifecycle.stop_container(BOT))
    assert ("machine-1", {"node1"}) == (caught.value.metadata["node"], left(world))
    world.set_node("node1", "ready")
    carry_out(lifecycle.stop_container(BOT))
    assert set() == left(world)
    assert ContainerState.EXITED is status(lifecycle).state


def test_a_start_waits_for_the_end_of_what_a_stop_has_left_on_a_node_that_is_back(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    stop_without_its_node(world, lifecycle)
    world.set_node("node1", "ready")
    engine.on("GET", "/containers/json", Json([{"Id": "c1"}]))
    operation = lifecycle.start_container(BOT)
    for _ in range(20):
        next(operation)
        time.sleep(0.01)
    assert 0 == world.replicas
    engine.on("GET", "/containers/json", Json([]))
    carry_out(operation)
    assert (1, set()) == (world.replicas, left(world))


def test_the_container_of_a_later_start_is_not_taken_for_one_that_a_stop_has_left(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make_lifecycle({"machine-1": engine.url})
    run(lifecycle)
    stop_without_its_node(world, lifecycle)
    carry_out(lifecycle.start_container(BOT))
    world.set_node("node1", "ready")
    for running, expected in ((["c0", "c1"], {"node1"}), (["c1"], set())):
        engine.on("GET", "/containers/json", Json([{"Id": each} for each in running]))
        for _ in range(10):
            (service,) = world.services.values()
            lifecycle.upkeep.attend(service)
            time.sleep(0.02)
        assert expected == left(world)
    assert 1 == world.replicas
