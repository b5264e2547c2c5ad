"""Starts on a swarm: how long each is watched, what is told of one that fails, and that it is withdrawn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from container_manager.backends.swarm import runs
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.records import LABEL_LEFT_ON
from container_manager.bot_directories import RootDirectory
from container_manager.errors import (
    CommandNotFoundError,
    EngineTimeoutError,
    NodeUnavailableError,
    PortInUseError,
    SecretsUnavailableError,
    StartFailedError,
    StateUnavailableError,
)
from container_manager.model import ContainerConfig, ContainerState, ExitReason
from container_manager.operation import carry_out
from tests.support.fake_engine import FakeEngine, Json, Raw
from tests.unit.swarm_documents import BOT, IMAGE, service, spec, task
from tests.unit.swarm_operations import create, run, status
from tests.unit.swarm_world import SwarmWorld

pytestmark = pytest.mark.usefixtures("no_grace")

NO_PROGRAM = b"\x02\0\0\0\0\0\0\x46[FATAL tini (7)] exec nope failed: No such file or directory\n"
"""What a container's init process writes, in the engine's frame."""


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
            [
                {
                    "State": "failed",
                    "Err": "task: non-zero exit (1)",
                    "ContainerStatus": {"ContainerID": "c", "ExitCode": 1},
                },
            ],
            NO_PROGRAM.replace(b"No such file or directory", b"File name too long"),
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
    script: list[dict[str, Any]],
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
@pytest.mark.parametrize("command", [("nope",), ()], ids=["the bot's own", "the image's"])
def test_on_a_node_that_is_slow_a_missing_program_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch, start_seconds: float, settled_seconds: float, command: tuple[str, ...]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(runs, "time", clock)
    monkeypatch.setattr(runs, "_IMAGE_CHECKED_SECONDS", 100.0)
    begun = runs._Start(service(spec(ContainerConfig(command=command))), 0)

    def is_over(state: str, at: float) -> bool:
        clock.now = at
        return begun.look([task(state, status={"ContainerStatus": {"ContainerID": "c"}})])

    assert not is_over("starting", 1)
    assert not is_over("starting", 1 + start_seconds)
    assert not is_over("running", 100)
    assert not is_over("running", 100 + settled_seconds - 0.01)
    assert is_over("running", 100 + settled_seconds)


def test_a_missing_program_is_told_as_soon_as_somebody_has_the_log(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start whose outcome nobody knows is not taken for a success that is seen through."""

    def unavailable(*_: object) -> bytes:
        raise EngineTimeoutError("the node is not available")

    create(lifecycle)
    ended = {"ContainerID": "c", "ExitCode": 127}
    world.script = [{"State": "failed", "Err": "task: non-zero exit (127)", "ContainerStatus": ended}]
    with monkeypatch.context() as patch:
        patch.setattr(world, "task_log", unavailable)
        carry_out(lifecycle.start_container(BOT))
        for _ in range(2):
            lifecycle.upkeep.attend(world.list_services(None)[0])
            assert (ContainerState.RESTARTING, 1) == (status(lifecycle).state, world.replicas)
    world.log = NO_PROGRAM
    world.at_stop = [None]
    lifecycle.upkeep.attend(world.list_services(None)[0])
    assert (ExitReason.START_FAILED, 0) == (status(lifecycle).exit_reason, world.replicas)


@pytest.mark.parametrize("named", ["engine", "engine without the container", "nothing there"])
def test_a_missing_program_is_told_by_the_engine_of_its_node_or_else_by_the_manager(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], engine: FakeEngine, named: str
) -> None:
    """A manager may get no log from a node that has connected to it anew."""
    if named == "engine":
        engine.on("GET", "/containers/c/logs", Raw(NO_PROGRAM))
    else:
        world.log = NO_PROGRAM
    lifecycle = make_lifecycle({"machine-1": "unix:///nowhere" if named == "nothing there" else engine.url})
    create(lifecycle)
    ended = {"ContainerID": "c", "ExitCode": 127}
    world.script = [{"State": "failed", "Err": "task: non-zero exit (127)", "ContainerStatus": ended}]
    world.at_stop = [None]
    with pytest.raises(CommandNotFoundError):
        carry_out(lifecycle.start_container(BOT))


def test_a_missing_program_is_told_also_where_the_manager_learns_its_end_late(
    world: SwarmWorld,
    make_lifecycle: Callable[..., SwarmLifecycle],
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the manager it runs until the engine of its node was asked."""
    engine.on("GET", "/containers/c/json", Json({"State": {"Running": False}}))
    engine.on("GET", "/containers/c/logs", Raw(NO_PROGRAM))
    lifecycle = make_lifecycle({"machine-1": engine.url})
    create(lifecycle)
    world.script = [{"State": "running", "ContainerStatus": {"ContainerID": "c", "PID": 7}}]
    ended = {"ContainerID": "c", "ExitCode": 127}
    failed = {"State": "failed", "Err": "task: non-zero exit (127)", "ContainerStatus": ended}
    listed = world.list_tasks

    def list_tasks(*args: Any, **filters: Any) -> list[dict[str, Any]]:
        if engine.seen("GET", "/containers/c/json"):
            for each in world.tasks.values():
                each["script"] = iter([failed])
        return listed(*args, **filters)

    monkeypatch.setattr(world, "list_tasks", list_tasks)
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
    with pytest.raises(NodeUnavailableError, match="start it when the node is back") as caught:
        carry_out(lifecycle.start_container(BOT))
    assert "machine-2" == caught.value.metadata["node"]
    assert {"Replicated": {"Replicas": 0}} == service["Spec"]["Mode"]
    assert LABEL_LEFT_ON not in service["Spec"]["Labels"]


def test_a_first_start_on_a_node_whose_change_hangs_holds_no_thread_and_goes_on_then(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(lifecycle)
    (made,) = world.services.values()
    made["Spec"]["TaskTemplate"]["Placement"] = {"Constraints": ["node.id==node1"]}
    change, begun, answers = world.update_node, threading.Event(), threading.Event()

    def hang(document: dict[str, Any], spec: dict[str, Any]) -> bool:
        begun.set()
        assert answers.wait(60)
        return change(document, spec)

    monkeypatch.setattr(world, "update_node", hang)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        stack.callback(answers.set)
        other = pool.submit(carry_out, lifecycle.state_nodes.keep("other", "node1"))
        assert begun.wait(60)
        begins = time.monotonic()
        operation = lifecycle.start_container(BOT)
        next(operation)
        assert time.monotonic() < begins + 5
        assert "update_service" not in world.calls, "the mark comes before the state"
        answers.set()
        other.result(60)
        carry_out(operation)
    assert {f"botmaker.state.{BOT}", "botmaker.state.other"} <= set(world.nodes["node1"]["Spec"]["Labels"])
    assert ContainerState.RUNNING is status(lifecycle).state


def test_a_restart_that_cannot_start_stops_nothing(
    world: SwarmWorld, lifecycle: SwarmLifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(lifecycle)

    def none(_: str) -> list[dict[str, Any]]:
        raise SecretsUnavailableError("the bot has no secrets", bot_id=BOT)

    monkeypatch.setattr(lifecycle._starts._secrets, "references", none)
    with pytest.raises(SecretsUnavailableError):
        carry_out(lifecycle.restart_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state


def test_a_restart_without_the_state_on_shared_storage_stops_nothing(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], tmp_path: Path
) -> None:
    root = tmp_path / "states"
    root.mkdir(mode=0o711)
    lifecycle = make_lifecycle(state_root=RootDirectory(root, Path("/shared")))
    run(lifecycle)
    (root / BOT).rmdir()
    carry_out(lifecycle.start_container(BOT))
    with pytest.raises(StateUnavailableError, match="does not exist"):
        carry_out(lifecycle.restart_container(BOT))
    assert ContainerState.RUNNING is status(lifecycle).state
    carry_out(lifecycle.stop_container(BOT))
    with pytest.raises(StateUnavailableError, match="does not exist"):
        carry_out(lifecycle.start_container(BOT))
    assert 0 == world.replicas


def test_a_state_that_a_node_does_not_have_is_told_as_that(
    world: SwarmWorld, make_lifecycle: Callable[..., SwarmLifecycle], tmp_path: Path
) -> None:
    root = tmp_path / "states"
    root.mkdir(mode=0o711)
    lifecycle = make_lifecycle(state_root=RootDirectory(root, Path("/shared")))
    create(lifecycle)
    problem = f'invalid mount config for type "bind": bind source path does not exist: /shared/{BOT}'
    world.script, world.at_stop = [{"State": "rejected", "Err": problem}], [None]
    with pytest.raises(StateUnavailableError, match="/shared"):
        carry_out(lifecycle.start_container(BOT))


def test_a_service_that_is_older_than_the_state_root_needs_no_state(
    make_lifecycle: Callable[..., SwarmLifecycle], tmp_path: Path
) -> None:
    root = tmp_path / "states"
    root.mkdir(mode=0o711)
    run(make_lifecycle())
    carry_out(make_lifecycle(state_root=RootDirectory(root, root)).restart_container(BOT))
