"""Conformance 11: creating twice, again, and after failures."""

from __future__ import annotations

import uuid
from contextlib import suppress

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.errors import InvalidConfigError
from container_manager.model import ContainerConfig
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.hanging_pull_contract import HangingPullContract
from tests.support.start_failure_contract import BuildImage


def test_conformance_11_the_same_request_id_gives_the_same_container(calls: Calls, bots: Bots) -> None:
    bot_id, request_id = bots.new(), str(uuid.uuid4())
    first = calls.create(bot_id, *FOREVER, request_id=request_id)
    assert first == calls.create(bot_id, *FOREVER, request_id=request_id)
    assert request_id == bots.inspect(bot_id)["Config"]["Labels"]["botmaker.request-id"]
    with fails_with("ALREADY_EXISTS", "CONTAINER_ALREADY_EXISTS"):
        calls.create(bot_id, *FOREVER, request_id=str(uuid.uuid4()))


def test_conformance_11_after_a_failed_create_the_next_one_succeeds(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        calls.create(bot_id, *FOREVER, resources=pb.ResourceLimits(memory_bytes=1))
    assert "memory" in caught[0].message.lower()
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        calls.create(bot_id, *FOREVER, network="no-such-network")
    assert bots.containers() == []
    calls.create(bot_id, *FOREVER)


class TestHangingPull(HangingPullContract):
    """With the fixtures of the real engine."""


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


def test_a_request_id_label_of_the_image_is_refused_and_leaves_nothing(
    docker_service: DockerService, bots: Bots, build_image: BuildImage
) -> None:
    """Otherwise its containers would count as those of a call that never happened."""
    image = build_image("LABEL botmaker.request-id=wish")
    with pytest.raises(InvalidConfigError, match="label"):
        docker_service.create_container(bots.new(), ContainerConfig(image=image, command=FOREVER))
    assert bots.containers() == []
