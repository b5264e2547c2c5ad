"""Images that only a registry with a password has, and that nodes pull when a bot starts."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.config import BackendConfig, RegistryConfig, SwarmConfig
from dev import docker_command
from dev.images import TEST_IMAGE
from dev.swarm import SwarmBed
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_service import kept_service

ADDRESS = "10.219.0.1:5001"
"""Beside the bed's own registry, where all nodes reach it."""


@pytest.fixture(scope="module")
def registry(session_bed: SwarmBed) -> Iterator[Registry]:
    """A registry that admits only USER with PASSWORD."""
    with Registry(password=True, address=ADDRESS, enter=session_bed.enter_switch) as registry:
        yield registry


@pytest.fixture
def image(session_bed: SwarmBed, registry: Registry) -> str:
    """An image that this registry has, and no node."""
    registry.admit(USER)
    url = session_bed.nodes[0].docker_url
    container = docker_command.run(url, "create", TEST_IMAGE, "true").decode().strip()
    tar = docker_command.run(url, "export", container)
    docker_command.run(url, "rm", container)
    name = f"bots/{uuid.uuid4().hex}:1"
    docker_command.run(url, "import", "--change", f"LABEL name={name}", "-", name, stdin=tar)
    reference = registry.push(url, name, name)
    docker_command.run(url, "rmi", name)
    assert [] == nodes_with(session_bed, reference)
    return reference


@pytest.fixture
def registries(tmp_path: Path) -> RegistryConfig:
    """The file with the service's credentials."""
    registries = RegistryConfig(tmp_path / "registries.json")
    write(registries, USER)
    return registries


@pytest.fixture
def private(
    swarm_service: BackendConfig,
    swarm_config: SwarmConfig,
    session_dir: Path,
    tmp_path: Path,
    registries: RegistryConfig,
) -> Iterator[Calls]:
    """Calls to a service with credentials."""
    service = replace(swarm_service, state_root=None, registry_config=registries)
    with kept_service(service, swarm_config, f"unix://{session_dir}/private/s.sock", tmp_path) as kept:
        yield kept.calls


def write(registries: RegistryConfig, user: str) -> None:
    auth = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    registries.path.write_text(json.dumps({"auths": {ADDRESS: {"auth": auth}}}), encoding="utf-8")
    registries.path.chmod(0o600)


def nodes_with(bed: SwarmBed, image: str) -> list[str]:
    """The names of the nodes that have the image."""
    command = ("image", "ls", "--format", "{{.Repository}}")
    repository = image.rpartition(":")[0]
    return [
        node.name for node in bed.nodes if repository in docker_command.run(node.docker_url, *command).decode().split()
    ]


def state(calls: Calls, bot_id: str) -> tuple[int, str]:
    status = calls.status(bot_id)
    assert status is not None
    return status.state, status.node


def test_a_node_pulls_with_the_credentials_that_are_there_when_the_bot_starts(
    session_bed: SwarmBed,
    bots: SwarmBots,
    private: Calls,
    *,
    registry: Registry,
    image: str,
    registries: RegistryConfig,
) -> None:
    bot_id = bots.new()
    private.create(bot_id, *FOREVER, image=image)
    registry.admit("another")
    with fails_with("FAILED_PRECONDITION", "START_FAILED"):
        private.start(bot_id, timeout=60)
    assert [] == nodes_with(session_bed, image)
    write(registries, "another")
    private.start(bot_id, timeout=60)
    running, node = state(private, bot_id)
    assert (pb.CONTAINER_STATE_RUNNING, [node]) == (running, nodes_with(session_bed, image))


def test_calls_do_not_wait_for_a_start_whose_caller_has_left_while_a_registry_is_silent(
    bots: SwarmBots, registry: Registry, image: str, private: Calls
) -> None:
    stopped, removed, left = (bots.new() for _ in range(3))
    for bot_id in (stopped, removed, left):
        private.create(bot_id, *FOREVER, image=image)
    with registry.silent():
        # One after another: a start holds one of the service's few places until it is known what has become of it.
        for bot_id, end in ((stopped, private.stop), (removed, private.remove)):
            with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
                private.start(bot_id, timeout=3)
            began = time.monotonic()
            end(bot_id, timeout=60)
            assert time.monotonic() - began < 30
        with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
            private.start(left, timeout=10)
    assert private.status(removed) is None
    assert pb.CONTAINER_STATE_EXITED == state(private, stopped)[0]
    # The start goes on.
    private.start(left, timeout=60)
    assert pb.CONTAINER_STATE_RUNNING == state(private, left)[0]
