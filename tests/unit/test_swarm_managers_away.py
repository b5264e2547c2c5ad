"""Operations on a swarm whose managers elect a leader, stay away, or do not say which nodes are down."""

from __future__ import annotations

import threading
import time
import uuid
from itertools import pairwise
from typing import Any

import pytest

from container_manager.backends.swarm import runs, task_watch
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError, EngineUnavailableError, NodeUnavailableError
from container_manager.model import ContainerState
from container_manager.operation import carry_out
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_operations import run, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")


def test_managers_that_elect_a_leader_are_borne(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    run(lifecycle)
    world.at_stop = [{"State": "running"}] * 3 + world.at_stop
    operation = lifecycle.stop_container(BOT)
    next(operation)
    world.faults = [EngineUnavailableError("no leader"), EngineTimeoutError("too slow")]
    carry_out(operation)
    assert ContainerState.EXITED is status(lifecycle).state


def test_managers_that_stay_away_end_the_wait(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_watch, "NO_ANSWER_SECONDS", 0.05)
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    operation = lifecycle.stop_container(BOT)
    next(operation)
    world.faults = [EngineUnavailableError("no leader")] * 1000
    with pytest.raises(EngineUnavailableError, match="no leader"):
        carry_out(operation)
    world.faults = []


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


def test_a_node_that_a_new_leader_has_not_heard_of_yet_is_waited_for(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    # One look takes some milliseconds.
    world.at_stop = [{"State": "running"}] * 50 + world.at_stop
    world.set_node("node1", "unknown")
    carry_out(lifecycle.stop_container(BOT))
    assert ContainerState.EXITED is status(lifecycle).state


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
            held.clear()
        return answer(deadline)

    monkeypatch.setattr(world, "list_nodes", hang)
    other = threading.Thread(target=lambda: lifecycle.services.nodes(Deadline()))
    other.start()
    assert held.wait(10)
    lifecycle.services.nodes(Deadline(0.5))
    assert held.is_set()
    release.set()
    other.join()
