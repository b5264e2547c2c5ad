"""A registry that never answers holds up nothing but creates from its own images, and costs no threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest
from docker.errors import ImageNotFound

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.faulty_registry import FaultyRegistry, Stall
from tests.support.registry import Registry
from tests.support.serving import LoopedServer, looped_server
from tests.support.threads import started_since
from tests.support.waiting import wait_until


@pytest.fixture
def tarpit() -> Iterator[FaultyRegistry]:
    """A registry that answers the engine's first request, and nothing else."""
    with FaultyRegistry() as registry:
        registry.fail("manifest", Stall())
        yield registry


@pytest.fixture
def looped(service_config: BackendConfig, session_dir: Path) -> Iterator[LoopedServer]:
    """A server with four workers."""
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/tarpit.sock",), workers=4)
    with looped_server(config) as looped:
        yield looped


@pytest.fixture
def stub(looped: LoopedServer) -> Iterator[ContainerManagerStub]:
    """Its stub."""
    with connect(looped.server.addresses[0]) as channel:
        yield ContainerManagerStub(channel)


@contextmanager
def creating(stub: ContainerManagerStub, looped: LoopedServer, bots: Bots, images: list[str]) -> Iterator[list[Any]]:
    """Creates from each image, once all are under way; yields their futures, which are cancelled at the end."""
    before = looped.server._operations.changes_under_way
    calls = [
        stub.CreateContainer.future(
            pb.CreateContainerRequest(bot_id=bots.new(), config=pb.ContainerConfig(image=image)), timeout=600
        )
        for image in images
    ]
    try:
        wait_until(
            lambda: looped.server._operations.changes_under_way == before + len(images), "all creates are under way"
        )
        yield calls
    finally:
        for call in calls:
            call.cancel()
        wait_until(lambda: looped.server._operations.changes_under_way == before, "all creates have ended")


def make_local(stub: ContainerManagerStub, bots: Bots) -> str:
    """Create and start a bot from an image that the engine has; its id."""
    bot_id = bots.new()
    config = pb.ContainerConfig(command=FOREVER, network="none")
    stub.CreateContainer(pb.CreateContainerRequest(bot_id=bot_id, config=config), timeout=60)
    stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id), timeout=60)
    return bot_id


def test_creates_that_wait_for_one_shared_pull_refuse_no_create_of_a_local_image(
    stub: ContainerManagerStub, looped: LoopedServer, bots: Bots, tarpit: FaultyRegistry
) -> None:
    with creating(stub, looped, bots, [f"{tarpit.address}/bots/shared:1"] * 64) as calls:
        wait_until(lambda: tarpit.stalled == 1, "the pull is stalled")
        make_local(stub, bots)
        assert not any(call.done() for call in calls)
    assert len(tarpit.stalled_paths) == 1


def test_four_hundred_images_of_a_registry_that_never_answers_hold_up_nothing_else(  # noqa: PLR0917 - fixtures
    stub: ContainerManagerStub,
    looped: LoopedServer,
    bots: Bots,
    tarpit: FaultyRegistry,
    engine: docker.DockerClient,
    engine_url: str,
    test_image: str,
) -> None:
    bot_id = make_local(stub, bots)
    threads = set(threading.enumerate())
    images = [f"{tarpit.address}/bots/each:{number}" for number in range(400)]
    with creating(stub, looped, bots, images) as calls:
        wait_until(lambda: tarpit.stalled == 1, "one pull is stalled")
        # The service adds a few for credentials.
        started = started_since(threads)
        assert len(started) <= 16, started
        make_local(stub, bots)
        Calls(stub).stop(bot_id, grace=0, timeout=60)
        with Registry() as registry:
            pushed = registry.push(engine_url, test_image, "bots/beside:1")
            try:
                config = pb.ContainerConfig(image=pushed, command=FOREVER)
                beside = pb.CreateContainerRequest(bot_id=bots.new(), config=config)
                stub.CreateContainer(beside, timeout=60)
            finally:
                with suppress(ImageNotFound):
                    engine.images.remove(pushed, force=True)
        assert len(tarpit.stalled_paths) == 1
        assert not any(call.done() for call in calls)


@pytest.mark.usefixtures("early_answers")
def test_a_create_ends_at_its_deadline_and_others_wait_on(
    stub: ContainerManagerStub, looped: LoopedServer, bots: Bots, tarpit: FaultyRegistry
) -> None:
    image = f"{tarpit.address}/bots/shared:1"
    with creating(stub, looped, bots, [image]) as calls:
        request = pb.CreateContainerRequest(bot_id=bots.new(), config=pb.ContainerConfig(image=image))
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            stub.CreateContainer(request, timeout=4)
        assert not calls[0].done()
        tarpit.release()
        with suppress(grpc.RpcError):  # the engine asks again, or has failed
            calls[0].result(timeout=60)
