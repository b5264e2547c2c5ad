"""Conformance 11: creating twice, again, and after failures."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.config import BackendConfig, ServerConfig
from container_manager.errors import InvalidConfigError
from container_manager.model import ContainerConfig
from container_manager_client import connect
from tests.engine.conftest import BuildImage
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.serving import running_server
from tests.support.waiting import wait_until


def test_conformance_11_the_same_request_id_gives_the_same_container(calls: Calls, bots: Bots) -> None:
    bot_id, request_id = bots.new(), str(uuid.uuid4())
    first = calls.create(bot_id, *FOREVER, request_id=request_id)
    assert first == calls.create(bot_id, *FOREVER, request_id=request_id)
    assert request_id == bots.inspect(bot_id)["Config"]["Labels"]["botmaker.request-id"]
    with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"):
        calls.create(bot_id, *FOREVER, request_id=str(uuid.uuid4()))


def test_conformance_11_the_same_request_id_counts_after_a_server_restart(
    bots: Bots, service_config: BackendConfig, session_dir: Path
) -> None:
    bot_id, request_id = bots.new(), str(uuid.uuid4())
    ids = []
    for _ in range(2):
        config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/again/s.sock",))
        with running_server(config) as addresses, connect(addresses[0]) as channel:
            ids.append(Calls(ContainerManagerStub(channel)).create(bot_id, *FOREVER, request_id=request_id))
    assert ids[0] == ids[1]


def test_conformance_11_after_a_failed_create_the_next_one_succeeds(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        calls.create(bot_id, *FOREVER, resources=pb.ResourceLimits(memory_bytes=1))
    assert "memory" in caught[0].message.lower()
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        calls.create(bot_id, *FOREVER, network="no-such-network")
    assert bots.containers() == []
    calls.create(bot_id, *FOREVER)


def test_conformance_11_a_create_cancelled_amid_a_hanging_pull_holds_no_name(
    bots: Bots, service_config: BackendConfig, session_dir: Path, silent_registry: str
) -> None:
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/cancel/s.sock",))
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        stub = ContainerManagerStub(channel)
        bot_id = bots.new()
        request = pb.CreateContainerRequest(
            bot_id=bot_id, config=pb.ContainerConfig(image=f"{silent_registry}/bots/hangs:1")
        )
        call = stub.CreateContainer.future(request)
        # The create holds the bot once another change of the bot has to wait.
        wait_until(lambda: _is_held(stub, bot_id), "the create is under way")
        call.cancel()
        Calls(stub).create(bot_id, *FOREVER, timeout=20)
    assert len(bots.containers()) == 1


@pytest.mark.usefixtures("early_answers")
def test_conformance_11_a_create_whose_deadline_passes_amid_a_pull_says_so_and_holds_no_name(
    calls: Calls, bots: Bots, silent_registry: str
) -> None:
    bot_id = bots.new()
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        calls.create(bot_id, image=f"{silent_registry}/bots/hangs:2", timeout=4)
    calls.create(bot_id, *FOREVER, timeout=20)
    assert len(bots.containers()) == 1


@pytest.mark.parametrize("after", [0.001, 0.004, 0.008, 0.012, 0.02, 0.03])
def test_conformance_11_a_create_cancelled_at_any_moment_is_whole_or_nothing(
    calls: Calls, bots: Bots, stub: ContainerManagerStub, after: float
) -> None:
    bot_id = bots.new()
    request = pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(command=FOREVER))
    with suppress(grpc.RpcError):
        stub.CreateContainer(request, timeout=after)
    calls.stop(bot_id)  # waits for the bot's turn
    found = [container.attrs["State"]["Status"] for container in bots.containers()]
    assert found in ([], ["created"])
    calls.remove(bot_id)
    calls.create(bot_id, *FOREVER)


def test_conformance_11_a_hundred_remove_create_cycles(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    ids = set()
    for _ in range(100):
        ids.add(calls.create(bot_id, *FOREVER, network="none"))
        calls.remove(bot_id)
    assert len(ids) == 100
    assert bots.containers() == []


def _is_held(stub: ContainerManagerStub, bot_id: str) -> bool:
    try:
        stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id), timeout=0.1)
    except grpc.RpcError:
        return True
    return False


def test_a_request_id_label_of_the_image_is_refused_and_leaves_nothing(
    docker_service: DockerService, bots: Bots, build_image: BuildImage
) -> None:
    """Otherwise its containers would count as those of a call that never happened."""
    image = build_image("LABEL botmaker.request-id=wish")
    with pytest.raises(InvalidConfigError, match="label"):
        docker_service.create_container(bots.new(), ContainerConfig(image=image, command=FOREVER))
    assert bots.containers() == []
