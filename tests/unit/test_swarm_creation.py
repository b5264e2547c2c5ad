"""Creates on a swarm: retries, lost answers, and services of others with a bot's name or labels."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.status import pinned_node
from container_manager.deadline import Deadline
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerAlreadyExistsError,
    ContainerManagerError,
    ContainerNameMismatchError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageNotAllowedError,
    InvalidConfigError,
    InvalidStateError,
    NameInUseUnmanagedError,
    NotSupportedByBackendError,
)
from container_manager.model import ContainerConfig, ContainerState, container_name
from container_manager.operation import carry_out
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT, spec
from tests.unit.swarm_operations import create, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")


def test_a_create_whose_answer_is_lost_is_undone_later(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_answer(body: dict[str, Any]) -> None:
        world.add(body)
        raise EngineTimeoutError("no answer")

    world.on_create = lose_the_answer
    with pytest.raises(EngineTimeoutError):
        create(lifecycle)
    wait_until(lambda: not world.services, "the service that nobody knows is removed")
    world.on_create = lambda _: None
    create(lifecycle)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_create_that_fails_and_is_carried_out_all_the_same_is_undone_later(
    world: SwarmWorld, lifecycle: SwarmLifecycle, status: int
) -> None:
    def fail_too_late(body: dict[str, Any]) -> None:
        world.add(body)
        raise EngineRejectedError(status, "rpc error: code = Unavailable desc = transport is closing")

    world.on_create = fail_too_late
    with pytest.raises(ContainerManagerError, match="transport is closing"):
        create(lifecycle)
    wait_until(lambda: not world.services, "the service that nobody knows is removed", 20)
    world.on_create = lambda _: None
    create(lifecycle)


def test_a_retry_of_a_create_gets_its_service_and_another_one_is_refused(lifecycle: SwarmLifecycle) -> None:
    made = create(lifecycle, request_id="one")
    assert made == create(lifecycle, request_id="one")
    with pytest.raises(ContainerAlreadyExistsError) as caught:
        create(lifecycle, request_id="two")
    assert made == caught.value.metadata["container_id"]


def test_a_create_past_its_deadline_leaves_nothing(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    deadline = Deadline()

    def give_up(_: dict[str, Any]) -> None:
        deadline.cancel()

    world.on_create = give_up
    with pytest.raises(Exception, match="cancelled"):
        create(lifecycle, deadline=deadline)
    assert {} == world.services


def test_a_foreign_service_with_the_bots_name_is_never_touched(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    foreign = spec()
    foreign["Labels"] = {}
    world.start(world.services[world.add(foreign)])
    for change in (lifecycle.start_container, lifecycle.stop_container, lifecycle.remove_container):
        with pytest.raises(NameInUseUnmanagedError):
            carry_out(change(BOT))
    with pytest.raises(NameInUseUnmanagedError):
        create(lifecycle)
    assert lifecycle.get_container_status(BOT) is None
    with pytest.raises(NameInUseUnmanagedError):
        lifecycle.require_container(BOT)
    assert 1 == len(world.services)


def test_a_name_that_a_service_holds_in_capitals_is_in_use(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    """Names of a swarm are unique whatever their case, and found only in their own."""
    world.add({**spec(), "Name": container_name(BOT).upper(), "Labels": {}})
    with pytest.raises(NameInUseUnmanagedError, match=container_name(BOT).upper()):
        create(lifecycle)


def test_a_service_that_another_one_creates_meanwhile_exists_already(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by its labels, although it was not there by its name."""
    listed = world.list_services
    monkeypatch.setattr(
        world, "list_services", lambda *args, **filters: (world.add(spec()), listed(*args, **filters))[1]
    )
    with pytest.raises(ContainerAlreadyExistsError):
        create(lifecycle)


def test_a_service_with_the_bots_labels_and_another_name_is_shown_and_never_touched(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    world.add({**spec(), "Name": "by-hand"})
    assert "by-hand" == status(lifecycle).name
    for change in (lifecycle.start_container, lifecycle.stop_container, lifecycle.remove_container):
        with pytest.raises(ContainerNameMismatchError, match="remove it, and create the bot"):
            carry_out(change(BOT))
    assert 1 == len(world.services)


def test_an_old_node_is_refused_at_the_create(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    world.nodes["node2"]["Description"]["Engine"]["EngineVersion"] = "20.10.24"
    with pytest.raises(NotSupportedByBackendError) as caught:
        create(lifecycle)
    assert "machine-2" == caught.value.metadata["node"]
    assert {} == world.services


def test_what_a_swarm_could_create_but_not_start_is_refused_at_the_create(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    """Before its registry is asked."""
    with pytest.raises(InvalidConfigError, match=r"config\.command"):
        carry_out(lifecycle.create_container(BOT, ContainerConfig(command=("x" * 100_000,) * 7)))
    assert {} == world.services
    assert "distribution" not in world.calls


def test_an_upgrade_puts_back_what_its_operator_no_longer_allows(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle]
) -> None:
    lifecycle = make_lifecycle(allowed_images=("other/*",))
    world.nodes["node2"]["Description"]["Engine"]["EngineVersion"] = "20.10.24"
    old = ContainerConfig(image="registry.test/old:1")
    with pytest.raises(ImageNotAllowedError):
        carry_out(lifecycle.create_container(BOT, old))
    carry_out(lifecycle.create_container(BOT, old, image_id="sha256:" + "ab" * 32))
    assert "registry.test/old:1" == status(lifecycle).image


def test_a_create_that_was_given_up_removes_no_bot_that_was_started_since(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.given_up_creates.FIRST_PAUSE_SECONDS", 60.0)

    def lose_the_answer(body: dict[str, Any]) -> None:
        world.add(body)
        world.faults = [EngineUnavailableError("no leader")]
        raise EngineTimeoutError("no answer")

    world.on_create = lose_the_answer
    with pytest.raises(EngineTimeoutError):
        create(lifecycle)
    wait_until(lambda: not world.faults, "the search has met the managers without a leader")
    carry_out(lifecycle.start_container(BOT))
    with pytest.raises(ContainerAlreadyExistsError):
        create(lifecycle)
    assert ContainerState.RUNNING is status(lifecycle).state


@pytest.fixture
def lost(world: SwarmWorld, lifecycle: SwarmLifecycle) -> Callable[[], None]:
    """Lets a create of the bot lose its answer, so that its service is removed in the background."""

    def lose(body: dict[str, Any]) -> None:
        world.add(body)
        world.on_create = lambda _: None
        raise EngineTimeoutError("no answer")

    def create_in_vain() -> None:
        world.on_create = lose
        with pytest.raises(EngineTimeoutError):
            create(lifecycle)

    return create_in_vain


def test_a_bot_that_is_started_while_its_create_is_undone_stays(
    world: SwarmWorld, lifecycle: SwarmLifecycle, lost: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected, started = world.inspect_service, threading.Event()

    def start_meanwhile(name_or_id: str, deadline: object) -> dict[str, Any] | None:
        service = inspected(name_or_id, deadline)
        # The undo looks by the id.
        if name_or_id != container_name(BOT) and not started.is_set():
            started.set()
            carry_out(lifecycle.start_container(BOT))
        return service

    monkeypatch.setattr(world, "inspect_service", start_meanwhile)
    lost()
    assert started.wait(60)
    wait_until(lambda: not lifecycle._creator._given_up._creates, "the undo has ended")
    assert ContainerState.RUNNING is status(lifecycle).state


def test_a_bot_cannot_be_started_any_more_once_its_create_is_undone(
    world: SwarmWorld, lifecycle: SwarmLifecycle, lost: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    removed, refused = world.remove_service, threading.Event()

    def start_before(service_id: str) -> bool:
        with pytest.raises(InvalidStateError, match="being removed"):
            carry_out(lifecycle.start_container(BOT))
        refused.set()
        return removed(service_id)

    monkeypatch.setattr(world, "remove_service", start_before)
    lost()
    wait_until(lambda: not world.services, "the service that nobody knows is removed")
    assert refused.is_set()


BOTS = [BOT[:-1] + digit for digit in "123456789"]


@pytest.fixture
def pinning(world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle]) -> Iterator[SwarmLifecycle]:
    """A service of pinned bots, whose swarm has nine nodes. In the end each has one bot."""
    world.nodes = {
        f"node{number}": {**copy.deepcopy(world.nodes["node1"]), "ID": f"node{number}"} for number in range(9)
    }
    yield make_lifecycle(placement="pinned")
    assert sorted(world.nodes) == sorted(map(pinned_node, world.services.values()))


def test_pinned_bots_that_are_created_at_the_same_time_are_spread_over_the_nodes(
    world: SwarmWorld, pinning: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, meeting = world.list_services, threading.Barrier(len(BOTS))

    def meet(deadline: object, **filters: Any) -> list[dict[str, Any]]:
        services = listed(deadline, **filters)
        if filters == {"label": ["botmaker.managed=true"]}:
            meeting.wait(60)
        return services

    monkeypatch.setattr(world, "list_services", meet)
    with ThreadPoolExecutor(len(BOTS)) as threads:
        list(threads.map(lambda bot_id: create(pinning, bot_id), BOTS))


def test_a_pinned_bot_that_was_created_while_services_were_listed_counts_too(
    world: SwarmWorld, pinning: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, others = world.list_services, iter(BOTS)

    def create_another(deadline: object, **filters: Any) -> list[dict[str, Any]]:
        services = listed(deadline, **filters)
        if filters == {"label": ["botmaker.managed=true"]} and (bot_id := next(others, "")):
            create(pinning, bot_id)
        return services

    monkeypatch.setattr(world, "list_services", create_another)
    create(pinning, next(others))


def test_a_pinned_create_that_fails_keeps_no_node_from_others(world: SwarmWorld, pinning: SwarmLifecycle) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise EngineUnavailableError("no leader")

    world.on_create = refuse
    for bot_id in BOTS[1:]:
        with pytest.raises(EngineUnavailableError):
            create(pinning, bot_id)
    world.on_create = lambda _: None
    for bot_id in BOTS:
        create(pinning, bot_id)
