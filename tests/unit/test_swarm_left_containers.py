"""What is certain of a container that a swarm has forgotten, and what calls do that are not certain."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container_manager.backends.swarm import bot_services, left_containers, runs, task_watch
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.records import LABEL_LEFT_ON, left_on
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerAlreadyExistsError,
    EngineTimeoutError,
    EngineUnavailableError,
    NodeUnavailableError,
    StartFailedError,
)
from container_manager.model import ContainerConfig, ContainerState, ContainerStatus
from container_manager.operation import carry_out
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Json
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT, IMAGE
from tests.unit.swarm_world import NoSecrets, SwarmWorld

GRACE_SECONDS = 1
ROOT = RootDirectory(Path("/nonexistent"), Path("/nonexistent"))


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_watch, "_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(bot_services, "_NODES_SECONDS", 0.0)
    monkeypatch.setattr(runs, "_NODES_SECONDS", 0.01)
    monkeypatch.setattr(left_containers, "_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(left_containers, "_MISSED_SECONDS", 0.1)


@pytest.fixture
def world() -> SwarmWorld:
    return SwarmWorld()


@pytest.fixture
def make(world: SwarmWorld) -> Iterator[Callable[..., SwarmLifecycle]]:
    made = []

    def make(**node_engines: str) -> SwarmLifecycle:
        config = BackendConfig(secrets_root=ROOT, default_image=IMAGE, grace_seconds=GRACE_SECONDS)
        swarm = SwarmConfig(node_engines={name.replace("_", "-"): url for name, url in node_engines.items()})
        made.append(SwarmLifecycle(world, config, swarm, NoSecrets()))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def lifecycle(make: Callable[..., SwarmLifecycle]) -> SwarmLifecycle:
    return make()


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """The engine of machine-1."""
    with FakeEngine() as engine:
        engine.on("GET", "/info", Json({"Swarm": {"NodeID": "node1"}}))
        yield engine


def run(lifecycle: SwarmLifecycle, bot_id: str = BOT) -> None:
    carry_out(lifecycle.create_container(bot_id, ContainerConfig(image=IMAGE)))
    carry_out(lifecycle.start_container(bot_id))


def status(lifecycle: SwarmLifecycle) -> ContainerStatus:
    found = lifecycle.get_container_status(BOT)
    assert found is not None
    return found


def stop_without_its_node(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    """Stop the bot, which runs on node1, while that is down; the swarm forgets its task."""
    world.at_stop = [None]
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="it ends when the node is back"):
        carry_out(lifecycle.stop_container(BOT))
    assert {} == world.tasks
    world.at_stop = SwarmWorld().at_stop


def left(world: SwarmWorld) -> set[str]:
    (service,) = world.services.values()
    return set(left_on(service))


def test_a_remove_after_a_stop_that_is_not_certain_is_not_either_and_keeps_the_bot(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    stop_without_its_node(world, lifecycle)
    for _ in range(2):
        with pytest.raises(NodeUnavailableError, match="remove it when the node is back") as caught:
            carry_out(lifecycle.remove_container(BOT))
        assert "machine-1" == caught.value.metadata["node"]
    assert (ContainerState.RUNNING, True) == (status(lifecycle).state, status(lifecycle).node_unreachable)
    with pytest.raises(ContainerAlreadyExistsError):
        carry_out(lifecycle.create_container(BOT, ContainerConfig(image=IMAGE)))
    world.set_node("node1", "ready")
    carry_out(lifecycle.remove_container(BOT))
    assert {} == world.services


@pytest.mark.parametrize("change", ["stop_container", "remove_container"])
def test_what_the_managers_do_not_answer_is_not_certain(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The task is forgotten, and the managers do not say whether its node is down."""
    run(lifecycle)
    world.at_stop = [None]
    asked = []

    def list_nodes(_: object) -> list[dict[str, Any]]:
        asked.append(1)
        if len(asked) < 5:
            raise EngineUnavailableError("no leader")
        world.set_node("node1", "down")
        return list(world.nodes.values())

    operation = getattr(lifecycle, change)(BOT)
    next(operation)
    monkeypatch.setattr(world, "list_nodes", list_nodes)
    with pytest.raises(NodeUnavailableError):
        carry_out(operation)


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
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine, change: str
) -> None:
    lifecycle = make(machine_1=engine.url)
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
    asked = time.monotonic()
    assert ended.wait(10)
    assert time.monotonic() - asked < GRACE_SECONDS
    stopping.join()


def test_the_engine_of_another_node_says_nothing_about_a_forgotten_container(
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    """The operator has named the wrong one."""
    engine.on("GET", "/info", Json({"Swarm": {"NodeID": "node9"}}))
    engine.on("GET", "/containers/json", Json([]))
    lifecycle = make(machine_1=engine.url)
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
    clock = SimpleNamespace(ahead=0, monotonic=lambda: time.monotonic() + clock.ahead)
    monkeypatch.setattr(left_containers, "time", clock)
    run(lifecycle)
    world.at_stop = [None]
    operation = lifecycle.stop_container(BOT)
    while not left(world) or world.tasks:
        next(operation)
    next(operation)
    assert lifecycle._left._searches
    world.set_node("node1", "down")
    if is_told:
        with pytest.raises(NodeUnavailableError):
            carry_out(operation)
    world.set_node("node1", "ready")
    clock.ahead = seconds
    began = time.monotonic()
    carry_out(lifecycle.stop_container(BOT))
    assert time.monotonic() - began > GRACE_SECONDS


def test_a_node_that_a_new_leader_has_not_heard_of_yet_is_waited_for(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    # One look takes some milliseconds.
    world.at_stop = [{"State": "running"}] * 50 + world.at_stop
    world.set_node("node1", "unknown")
    carry_out(lifecycle.stop_container(BOT))
    assert ContainerState.EXITED is status(lifecycle).state


class Deaf:
    """Managers that do not answer."""

    def list_tasks(self, *_: object, **__: object) -> list[dict[str, Any]]:
        raise EngineUnavailableError("no leader")


def test_of_two_services_that_stop_one_bot_neither_makes_the_swarm_forget_its_container(
    world: SwarmWorld, make: Callable[..., SwarmLifecycle]
) -> None:
    first, second = make(), make()
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


def test_a_stop_with_a_longer_grace_period_is_recorded_although_the_node_is_down(
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make(machine_1=engine.url)
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError, match="it ends when the node is back"):
        carry_out(lifecycle.stop_container(BOT, 60))
    assert (0, {"node1"}, []) == (world.replicas, left(world), engine.seen("POST", "*"))
    with pytest.raises(NodeUnavailableError, match="it is removed when the node is back"):
        carry_out(lifecycle.remove_container(BOT, 60))
    assert {} == world.services


def test_a_node_that_is_lost_in_a_longer_grace_period_is_named_and_the_stop_recorded(
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make(machine_1=engine.url)
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    engine.on("POST", "/containers/c1/stop", Cut())
    operation = lifecycle.stop_container(BOT, 60)
    next(operation)
    world.set_node("node1", "down")
    with pytest.raises(NodeUnavailableError) as caught:
        carry_out(operation)
    assert ("machine-1", 0, {"node1"}) == (caught.value.metadata["node"], world.replicas, left(world))


def test_a_bot_that_moves_in_a_longer_grace_period_is_stopped_where_it_is_then(
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make(machine_1=engine.url)
    run(lifecycle)
    world.nodes["node2"]["Status"]["State"] = "ready"
    engine.on("POST", "/containers/c1/stop", NO_CONTENT)
    operation = lifecycle.stop_container(BOT, 60)
    next(operation)
    (task,) = world.tasks.values()
    task["NodeID"] = "node2"
    world.at_stop = [{"State": "running"}]
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
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make(machine_1=engine.url)
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
    world: SwarmWorld, make: Callable[..., SwarmLifecycle], engine: FakeEngine
) -> None:
    lifecycle = make(machine_1=engine.url)
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


def test_managers_that_do_not_say_which_nodes_are_down_do_not_hold_up_those_who_wait(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_NODES_SECONDS", 0.2)
    bots = [str(uuid.uuid4()) for _ in range(20)]
    for bot_id in bots:
        run(lifecycle, bot_id)
    world.at_stop = [{"State": "running"}]
    operations = [lifecycle.stop_container(bot_id) for bot_id in bots]
    for operation in operations:
        next(operation)
    asked = []

    def list_nodes(deadline: Deadline) -> list[dict[str, Any]]:
        asked.append((deadline.remaining(), time.monotonic()))
        raise EngineTimeoutError("no answer")

    monkeypatch.setattr(world, "list_nodes", list_nodes)
    wait_until(lambda: len(asked) >= 3, "they are asked")
    for task in world.tasks.values():
        task["script"] = iter(SwarmWorld().at_stop[:1] * 100)
    for operation in operations:
        carry_out(operation)
    # In the thread of all waits, so once for all.
    for (seconds, at), (_, next_at) in pairwise(asked[:3]):
        assert seconds is not None
        assert seconds <= 1
        assert next_at - at >= 0.2


def test_nobody_waits_for_the_managers_answer_to_somebody_else(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, release = threading.Event(), threading.Event()
    answer = world.list_nodes

    def hang(deadline: Deadline) -> list[dict[str, Any]]:
        if deadline.remaining() is None:
            held.set()
            release.wait(10)
        return answer(deadline)

    monkeypatch.setattr(world, "list_nodes", hang)
    other = threading.Thread(target=lambda: lifecycle.services.nodes(Deadline()))
    other.start()
    assert held.wait(10)
    began = time.monotonic()
    lifecycle.services.nodes(Deadline(0.5))
    assert time.monotonic() - began < 5
    assert other.is_alive()
    release.set()
    other.join()


def test_a_start_that_its_only_node_cannot_take_says_that_it_is_withdrawn(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_UNPLACED_SECONDS", 0.05)
    carry_out(lifecycle.create_container(BOT, ContainerConfig(image=IMAGE)))
    (service,) = world.services.values()
    service["Spec"]["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==node2"]}
    world.script = [{"State": "pending", "Err": "no suitable node"}]
    world.at_stop = [None]
    with pytest.raises(NodeUnavailableError, match="start it when the node is back"):
        carry_out(lifecycle.start_container(BOT))
    assert LABEL_LEFT_ON not in service["Spec"]["Labels"]
