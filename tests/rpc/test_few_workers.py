"""One worker of each kind: what it cannot begin in time never runs, and waits for names and removals leave it alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker import creation
from container_manager.model import ContainerState, container_name
from container_manager_client import connect
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import Answer, FakeEngine, Request, error
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observed_service import Serve, channel_to
from tests.support.waiting import wait_until
from tests.unit.creating import ABSENT, CREATE, REMOVE
from tests.unit.documents import node_program
from tests.unit.late_engine import LateEngine

ARCHIVE = ("HEAD", "/containers/*/archive")


@pytest.mark.usefixtures("early_answers")
def test_a_start_that_no_worker_has_begun_in_time_never_runs_and_leaves_its_bot_to_the_next(
    serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    go, start = threading.Event(), memory.lifecycle.start_container

    def blocks(bot_id: str, **how: Any) -> Any:
        begun.append(bot_id)
        assert go.wait(60)
        return start(bot_id, **how)

    monkeypatch.setattr(memory.lifecycle, "start_container", blocks)
    first, second = bots.new(), bots.new()
    for bot_id in (first, second):
        memory.add(bot_id, ContainerState.EXITED)
    with serve_on(unix, workers=1) as addresses, connect(addresses[0]) as channel:
        calls = Calls(ContainerManagerStub(channel))

        def starting(bot_id: str) -> Any:
            return calls.stub.StartContainer.future(pb.StartContainerRequest(bot_id=bot_id), timeout=60)

        busy = starting(first)
        wait_until(lambda: begun, "the worker is busy")
        for _ in range(2):
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                calls.start(second, timeout=2)
        last = starting(second)
        go.set()
        busy.result()
        last.result()
    assert [first, second] == begun, "each of them once"


class World:
    """A Docker engine with containers, a server with one worker of each kind, and two bots."""

    def __init__(self, late: LateEngine, calls: Calls, bots: MemoryBots) -> None:
        self.late = late
        self.calls = calls
        self.bot_id, self.other = bots.new(), bots.new()
        self.holds = True
        """What the engine is doing with the bot's container has not ended."""

    def while_held(self, then: Any) -> Any:
        """A script: what the engine answers about the bot's container while it has it, and else ``then``."""

        def script(request: Request) -> Answer:
            made = self.late.containers.get(request.path.split("/")[2])
            name = request.query.get("name") or (made.query["name"] if made else "")
            is_held = self.holds and name == container_name(self.bot_id)
            answer: Answer = (
                error(409, "Conflict: removal of container is already in progress") if is_held else then(request)
            )
            return answer

        return script


@pytest.fixture
def world(serve: Serve, fake: FakeEngine, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(creation, "_NAME_WAIT_SECONDS", 60.0)
    late = LateEngine(fake)
    with serve(workers=1) as looped, channel_to(looped) as channel:
        yield World(late, Calls(ContainerManagerStub(channel)), bots)


def test_a_create_that_waits_for_its_name_leaves_the_worker_to_another(world: World) -> None:
    world.late.engine.on(*CREATE, world.while_held(world.late.make))
    waiting = _creating(world)
    world.late.engine.await_request(*CREATE, count=3)
    world.calls.create(world.other, timeout=20)
    assert not waiting.done()
    world.holds = False
    assert waiting.result().container_id in world.late.containers


def test_a_create_that_waits_until_its_first_container_has_gone_leaves_the_worker_to_another(world: World) -> None:
    """It makes one without init instead, for a program that is missing."""

    def missing(request: Request) -> Answer:
        made = world.late.containers[request.path.split("/")[2]]
        return ABSENT if made.query["name"] == container_name(world.bot_id) else node_program(request)

    world.late.engine.on(*ARCHIVE, missing)
    world.late.engine.on(*REMOVE, world.while_held(world.late.remove))
    waiting = _creating(world)
    world.late.engine.await_request(*REMOVE)
    world.calls.create(world.other, timeout=20)
    assert not waiting.done()
    _goes(world)
    assert waiting.result().container_id in world.late.containers


def test_a_removal_that_waits_until_the_container_has_gone_leaves_the_worker_to_another(world: World) -> None:
    for bot_id in (world.bot_id, world.other):
        world.calls.create(bot_id)
    world.late.engine.on(*REMOVE, world.while_held(world.late.remove))
    request = pb.RemoveContainerRequest(bot_id=world.bot_id)
    waiting = world.calls.stub.RemoveContainer.future(request, timeout=60)
    world.late.engine.await_request(*REMOVE, count=2)
    world.calls.remove(world.other, timeout=20)
    assert not waiting.done()
    _goes(world)
    waiting.result()
    assert {} == world.late.containers


def _creating(world: World) -> Any:
    return world.calls.stub.CreateContainer.future(pb.CreateContainerRequest(bot_id=world.bot_id), timeout=60)


def _goes(world: World) -> None:
    """The bot's container has gone."""
    (key,) = [key for key, made in world.late.containers.items() if made.query["name"] == container_name(world.bot_id)]
    world.holds = False
    del world.late.containers[key]
