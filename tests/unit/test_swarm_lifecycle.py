"""The operations on a swarm, with what a real one seldom shows: conflicts, faults, tasks that are forgotten early."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container_manager.backends.swarm import bot_services, left_containers, runs, task_watch
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.upkeep import is_due
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.deadline import Deadline
from container_manager.errors import (
    CommandNotFoundError,
    ContainerAlreadyExistsError,
    ContainerNameMismatchError,
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageNotAllowedError,
    NameInUseUnmanagedError,
    NodeUnavailableError,
    NotSupportedByBackendError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
)
from container_manager.model import ContainerConfig, ContainerState, ContainerStatus, ExitReason
from container_manager.operation import Operation, carry_out
from tests.support.fake_engine import FakeEngine, Raw
from tests.support.waiting import wait_until
from tests.unit.swarm_documents import BOT, IMAGE, service, spec, task
from tests.unit.swarm_world import NoSecrets, SwarmWorld

CONFIG = ContainerConfig(image=IMAGE)
ROOT = RootDirectory(Path("/nonexistent"), Path("/nonexistent"))
NO_PROGRAM = b"\x02\0\0\0\0\0\0\x46[FATAL tini (7)] exec nope failed: No such file or directory\n"
"""What a container's init process writes, in the engine's frame."""
Json = dict[str, Any]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_watch, "_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(bot_services, "_NODES_SECONDS", 0.0)
    monkeypatch.setattr(runs, "_NODES_SECONDS", 0.01)
    monkeypatch.setattr(left_containers, "_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr(left_containers, "_MISSED_SECONDS", 0.05)
    monkeypatch.setattr(left_containers, "grace_of", lambda _: 0)
    monkeypatch.setattr(runs, "_UNPLACED_SECONDS", 0.05)
    monkeypatch.setattr(runs, "_CHECKED_SECONDS", 0.05)
    monkeypatch.setattr(runs, "_IMAGE_CHECKED_SECONDS", 0.1)


@pytest.fixture
def world() -> SwarmWorld:
    return SwarmWorld()


@pytest.fixture
def lifecycle(world: SwarmWorld) -> Iterator[SwarmLifecycle]:
    config = BackendConfig(secrets_root=ROOT, default_image=IMAGE)
    made = SwarmLifecycle(world, config, SwarmConfig(), NoSecrets())  # type: ignore[arg-type]
    yield made
    made.close()


def create(lifecycle: SwarmLifecycle, **arguments: Any) -> str:
    return carry_out(lifecycle.create_container(BOT, CONFIG, **arguments)).container_id


def run(lifecycle: SwarmLifecycle) -> None:
    create(lifecycle)
    carry_out(lifecycle.start_container(BOT))


def status(lifecycle: SwarmLifecycle) -> ContainerStatus:
    found = lifecycle.get_container_status(BOT)
    assert found is not None
    return found


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


@pytest.mark.parametrize(
    ("script", "log", "error"),
    [
        ([{"State": "rejected", "Err": "No such image: x"}], b"", StartFailedError),
        ([{"State": "failed", "Err": "starting container failed: address already in use"}], b"", PortInUseError),
        (
            [
                {"State": "running"},
                {
                    "State": "failed",
                    "Err": "task: non-zero exit (127)",
                    "ContainerStatus": {"ContainerID": "c", "ExitCode": 127},
                },
            ],
            NO_PROGRAM,
            CommandNotFoundError,
        ),
        (
            [{"State": "pending", "Err": "no suitable node (host-mode port already in use on 3 nodes)"}],
            b"",
            StartFailedError,
        ),
    ],
)
def test_a_start_that_fails_is_withdrawn_and_shown(
    world: SwarmWorld,
    lifecycle: SwarmLifecycle,
    script: list[Json],
    log: bytes,
    error: type[StartFailedError],
) -> None:
    carry_out(lifecycle.create_container(BOT, ContainerConfig(image=IMAGE, command=("nope",))))
    world.script, world.log = script, log
    world.at_stop = [None]
    with pytest.raises(error):
        carry_out(lifecycle.start_container(BOT))
    (service,) = world.services.values()
    assert {"Replicated": {"Replicas": 0}} == service["Spec"]["Mode"]
    shown = status(lifecycle)
    assert (ContainerState.EXITED, ExitReason.START_FAILED, None) == (
        shown.state,
        shown.exit_reason,
        shown.exit_code,
    )
    assert shown.error


@pytest.mark.parametrize(
    ("start_seconds", "settled_seconds"),
    [(0.1, 0.2), (1.0, 0.5), (2.0, 2.0), (60.0, 5.0)],
    ids=["fast", "usual", "slow", "very slow"],
)
def test_on_a_node_that_is_slow_a_missing_program_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch, start_seconds: float, settled_seconds: float
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(runs, "time", clock)
    monkeypatch.setattr(runs, "_IMAGE_CHECKED_SECONDS", 100.0)
    begun = runs._Start(service(spec(ContainerConfig(command=("nope",)))), 0)

    def is_over(state: str, at: float) -> bool:
        clock.now = at
        return begun.look([task(state, status={"ContainerStatus": {"ContainerID": "c"}})])

    assert not is_over("starting", 1)
    assert not is_over("starting", 1 + start_seconds)
    assert not is_over("running", 100)
    assert not is_over("running", 100 + settled_seconds - 0.01)
    assert is_over("running", 100 + settled_seconds)


@pytest.mark.parametrize("named", ["engine", "engine without the container", "nothing there"])
def test_a_missing_program_is_told_by_the_engine_of_its_node_or_else_by_the_manager(
    world: SwarmWorld, named: str
) -> None:
    """A manager may get no log from a node that has connected to it anew."""
    config = BackendConfig(secrets_root=ROOT, default_image=IMAGE)
    with FakeEngine() as engine:
        if named == "engine":
            engine.on("GET", "/containers/c/logs", Raw(NO_PROGRAM))
        else:
            world.log = NO_PROGRAM
        url = "unix:///nowhere" if named == "nothing there" else engine.url
        swarm = SwarmConfig(node_engines={"machine-1": url})
        with closing(SwarmLifecycle(world, config, swarm, NoSecrets())) as lifecycle:  # type: ignore[arg-type]
            create(lifecycle)
            ended = {"ContainerID": "c", "ExitCode": 127}
            world.script = [{"State": "failed", "Err": "task: non-zero exit (127)", "ContainerStatus": ended}]
            world.at_stop = [None]
            with pytest.raises(CommandNotFoundError):
                carry_out(lifecycle.start_container(BOT))


def test_a_program_that_ends_at_once_has_been_started(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    create(lifecycle)
    ended = {"ContainerID": "c", "ExitCode": 127}
    world.script = [{"State": "failed", "Err": "task: non-zero exit (127)", "ContainerStatus": ended}]
    carry_out(lifecycle.start_container(BOT))
    assert (ContainerState.RESTARTING, 127) == (status(lifecycle).state, status(lifecycle).exit_code)


def test_a_start_whose_image_has_a_health_check_returns_and_shows_that_it_runs(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    create(lifecycle)
    world.script = [{"State": "starting", "ContainerStatus": {"ContainerID": "c"}}]
    carry_out(lifecycle.start_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state


def test_a_start_of_a_bot_whose_only_node_is_down_is_withdrawn(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    create(lifecycle)
    (service,) = world.services.values()
    service["Spec"]["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==node2"]}
    world.script = [{"State": "pending", "Err": "no suitable node"}]
    world.at_stop = [None]
    with pytest.raises(NodeUnavailableError) as caught:
        carry_out(lifecycle.start_container(BOT))
    assert "machine-2" == caught.value.metadata["node"]
    assert {"Replicated": {"Replicas": 0}} == service["Spec"]["Mode"]


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


def test_a_task_that_is_forgotten_before_it_was_seen_to_end_leaves_no_exit_code(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    world.at_stop = [None]
    carry_out(lifecycle.stop_container(BOT))
    shown = status(lifecycle)
    assert (ContainerState.EXITED, None) == (shown.state, shown.exit_code)
    assert shown.finish_time_ns is not None


def test_a_remove_on_a_node_that_is_down_is_not_certain_and_the_name_stays_taken(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.swarm.creation._NAME_WAIT_SECONDS", 0.05)
    run(lifecycle)
    world.at_stop = [{"State": "running"}]
    world.set_node("node1", "down")
    for _ in range(2):
        with pytest.raises(NodeUnavailableError):
            carry_out(lifecycle.remove_container(BOT))
    assert (ContainerState.REMOVING, True) == (status(lifecycle).state, status(lifecycle).node_unreachable)
    assert [status(lifecycle)] == lifecycle.list_managed_containers()
    assert lifecycle.containers_of_bot(BOT)
    with pytest.raises(NodeUnavailableError):
        create(lifecycle)
    world.set_node("node1", "ready")
    world.tasks.clear()
    carry_out(lifecycle.remove_container(BOT))
    create(lifecycle)


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


def test_a_create_whose_answer_is_lost_is_undone_later(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_answer(body: Json) -> None:
        world.add(body)
        raise EngineTimeoutError("no answer")

    world.on_create = lose_the_answer
    with pytest.raises(EngineTimeoutError):
        create(lifecycle)
    wait_until(lambda: not world.services, "the service that nobody knows is removed")
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

    def give_up(_: Json) -> None:
        deadline.cancel()

    world.on_create = give_up
    with pytest.raises(Exception, match="cancelled"):
        create(lifecycle, deadline=deadline)
    assert {} == world.services


def test_a_foreign_service_with_the_bots_name_is_never_touched(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    foreign = spec()
    foreign["Labels"] = {}
    world.add(foreign)
    for change in (lifecycle.start_container, lifecycle.stop_container, lifecycle.remove_container):
        with pytest.raises(NameInUseUnmanagedError):
            carry_out(change(BOT))
    with pytest.raises(NameInUseUnmanagedError):
        create(lifecycle)
    assert lifecycle.get_container_status(BOT) is None
    with pytest.raises(NameInUseUnmanagedError):
        lifecycle.require_container(BOT)
    assert 1 == len(world.services)


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


def test_another_grace_period_is_refused_where_the_nodes_engine_is_not_named(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    run(lifecycle)
    for change in (lifecycle.stop_container, lifecycle.restart_container, lifecycle.remove_container):
        with pytest.raises(NotSupportedByBackendError) as caught:
            carry_out(change(BOT, 0))
        assert "grace_period" == caught.value.metadata["field"]
    assert ContainerState.RUNNING is status(lifecycle).state
    carry_out(lifecycle.stop_container(BOT, 10))


def test_an_old_node_is_refused_at_the_create(world: SwarmWorld, lifecycle: SwarmLifecycle) -> None:
    world.nodes["node2"]["Description"]["Engine"]["EngineVersion"] = "20.10.24"
    with pytest.raises(NotSupportedByBackendError) as caught:
        create(lifecycle)
    assert "machine-2" == caught.value.metadata["node"]
    assert {} == world.services


def test_of_two_copies_a_stop_is_certain_only_when_both_nodes_have_answered(
    world: SwarmWorld, lifecycle: SwarmLifecycle
) -> None:
    """After a network was cut, the copy that is cut off still runs."""
    run(lifecycle)
    (service,) = world.services.values()
    world.start(service)
    first, second = world.tasks.values()
    first["NodeID"], second["NodeID"] = "node2", "node1"
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


def test_a_restart_that_cannot_start_stops_nothing(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lifecycle)

    def none(_: str) -> list[Json]:
        raise SecretsUnavailableError("the bot has no secrets", bot_id=BOT)

    monkeypatch.setattr(lifecycle._starts._secrets, "references", none)
    with pytest.raises(SecretsUnavailableError):
        carry_out(lifecycle.restart_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state


def test_an_upgrade_puts_back_what_its_operator_no_longer_allows(world: SwarmWorld) -> None:
    config = BackendConfig(secrets_root=ROOT, default_image=IMAGE, allowed_images=("other/*",))
    lifecycle = SwarmLifecycle(world, config, SwarmConfig(), NoSecrets())  # type: ignore[arg-type]
    world.nodes["node2"]["Description"]["Engine"]["EngineVersion"] = "20.10.24"
    old = ContainerConfig(image="registry.test/old:1")
    with pytest.raises(ImageNotAllowedError):
        carry_out(lifecycle.create_container(BOT, old))
    carry_out(lifecycle.create_container(BOT, old, image_id="sha256:" + "ab" * 32))
    assert "registry.test/old:1" == status(lifecycle).image
    lifecycle.close()


def test_a_create_that_was_given_up_removes_no_bot_that_was_started_since(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("container_manager.backends.given_up_creates.FIRST_PAUSE_SECONDS", 60.0)

    def lose_the_answer(body: Json) -> None:
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
