"""The live view is never wrong: after random operations, ours and others', every field equals the engine's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.engine_truth import differences, engines_own
from tests.support.random_operations import Actors, create_behind_the_back
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until

SEED = 20261123


@pytest.fixture
def own_bots(private_engine: PrivateEngine, tmp_path: Path) -> Iterator[Bots]:
    """Bots on the private engine."""
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    bots = Bots(client, tmp_path)
    yield bots
    bots.remove_all()
    client.close()


@pytest.fixture
def looped(private_engine: PrivateEngine, tmp_path: Path, session_dir: Path, own_bots: Bots) -> Iterator[LoopedServer]:
    """The real server on the private engine."""
    root = RootDirectory(tmp_path, tmp_path)
    image = ensure_test_image(private_engine.url)
    service = BackendConfig(secrets_root=root, docker_host=private_engine.url, default_image=image)
    with looped_server(ServerConfig(service=service, listen=(f"unix://{session_dir}/proof/s.sock",))) as looped:
        yield looped


def make_certain(calls: Calls, bots: Bots, bot_ids: list[str], image: str) -> None:
    """Also a running container with a published port, and one with a health check."""
    published, checked = bot_ids[:2]
    for container in bots.containers():
        if container.labels.get("botmaker.bot-id") in (published, checked):
            container.remove(force=True)
    calls.run(published, *FOREVER, ports=[pb.PortBinding(container_port=8080)])
    create_behind_the_back(bots.engine.api, f"botmaker-{checked}", checked, image)
    bots.engine.api.start(f"botmaker-{checked}")
    # From starting to healthy, where it stays.
    wait_until(lambda: [each.health for each in calls.listed([checked])] == [pb.HEALTH_STATUS_HEALTHY], "healthy")


def rest(bots: Bots, container: pb.ContainerStatus) -> None:
    """Stop the containers that never settle; the others stay running or paused."""
    api = bots.engine.api
    if tuple(api.inspect_container(container.container_id)["Config"]["Cmd"]) == FOREVER:
        return
    if container.state == pb.CONTAINER_STATE_PAUSED:
        api.unpause(container.container_id)
    api.stop(container.container_id, timeout=0)


def await_equality(calls: Calls, bots: Bots, looped: LoopedServer, told: str) -> None:
    """Every field equals the engine's in the end, and the audit did not have to correct any."""
    found: list[str] = []

    def equal() -> bool:
        found[:] = differences(calls.list(), engines_own(bots.engine))
        return not found

    try:
        wait_until(equal, "equality", 90)
    except AssertionError:
        view = looped.server.keeper.view
        state = f"in sync: {view.in_sync}, doubts: {view.doubts}, drift: {view.drift}"
        pytest.fail("\n".join([f"the view is not the engine's; {told}; {state}", *found]))


def run(
    private_engine: PrivateEngine, looped: LoopedServer, bots: Bots, *, seconds: float, restarts: int, seed: int = SEED
) -> None:
    """Run the actors for this time, let everything settle, then compare."""
    image = ensure_test_image(private_engine.url)
    actors = Actors(seed)
    view = looped.server.keeper.view
    with connect(looped.server.addresses[0]) as channel:
        calls = Calls(ContainerManagerStub(channel))
        wait_until(lambda: view.in_sync, "the view is in sync")
        shared = [bots.new() for _ in range(6)]
        for number in range(3):
            actors.own(number, calls, [bots.new() for _ in range(3)])
            actors.shared(number, calls, shared)
            actors.meddler(number, private_engine.url, shared, image)
        try:
            for _ in range(restarts):
                time.sleep(seconds / (restarts + 1))
                actors.away.set()
                private_engine.restart()
                wait_until(lambda: view.in_sync, "the view is in sync again", 60)
                actors.away.clear()
            time.sleep(seconds / (restarts + 1))
        finally:
            actors.stop()
        make_certain(calls, bots, shared, image)
        told = f"seed {seed}: {dict(sorted(actors.done.items()))}"
        assert [] == actors.wrong, told
        for each in engines_own(bots.engine):
            if each.state not in (pb.CONTAINER_STATE_CREATED, pb.CONTAINER_STATE_EXITED):
                rest(bots, each)
        await_equality(calls, bots, looped, told)
        found = calls.list()
        assert len(found) > 3, told
        assert any(each.state == pb.CONTAINER_STATE_RUNNING and each.ports for each in found), told
        assert any(each.health for each in found), told
        assert 0 == looped.run(looped.server.keeper.audit.check()), told
        assert 0 == view.drift, told


def test_random_operations_by_the_service_and_behind_its_back_leave_no_field_wrong(
    private_engine: PrivateEngine, looped: LoopedServer, own_bots: Bots
) -> None:
    run(private_engine, looped, own_bots, seconds=12, restarts=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_minutes_of_random_operations_leave_no_field_wrong(
    private_engine: PrivateEngine, looped: LoopedServer, own_bots: Bots, seed: int
) -> None:
    run(private_engine, looped, own_bots, seconds=100, restarts=3, seed=SEED + 1 + seed)
