"""Images of bots on a swarm: by digest, by id, and where nothing may be pulled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from container_manager.config import BackendConfig, SwarmConfig
from container_manager.model import PullPolicy
from dev import docker_command
from dev.images import TEST_IMAGE
from dev.swarm import SwarmBed
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_service import KeptService, kept_service


@pytest.fixture
def never(
    swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path, tmp_path: Path
) -> Iterator[KeptService]:
    """A service that pulls nothing."""
    service = replace(swarm_service, state_root=None, pull_policy=PullPolicy.NEVER)
    with kept_service(service, swarm_config, f"unix://{session_dir}/never/s.sock", tmp_path) as kept:
        yield kept


def id_of(bed: SwarmBed, node: int, image: str) -> str:
    return (
        docker_command.run(bed.nodes[node].docker_url, "image", "inspect", "--format", "{{.Id}}", image)
        .decode()
        .strip()
    )


def test_a_bot_of_an_image_by_its_id_or_where_nothing_may_be_pulled_runs_where_the_image_is(
    session_bed: SwarmBed, calls: Calls, never: KeptService, bots: SwarmBots
) -> None:
    """No node asks a registry: the image has no name in one."""
    image_id = id_of(session_bed, 0, TEST_IMAGE)
    by_id, by_name = bots.new(), bots.new()
    calls.run(by_id, *FOREVER, image=image_id)
    never.calls.run(by_name, *FOREVER, image=TEST_IMAGE)
    for bot_id, image in ((by_id, image_id), (by_name, TEST_IMAGE)):
        status = calls.status(bot_id)
        assert status is not None
        assert (image, image_id) == (status.image, status.image_id)
    with fails_with("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"):
        never.calls.create(bots.new(), *FOREVER, image="botmaker-test/none:1")


def test_a_bot_whose_image_no_node_has_fails_to_start_once(calls: Calls, bots: SwarmBots, never: KeptService) -> None:
    bot_id = bots.bare()
    put_secrets(never.provisioner, bot_id, A=os.urandom(8))
    calls.create(bot_id, *FOREVER, image="sha256:" + "ab" * 32)
    with fails_with("FAILED_PRECONDITION", "START_FAILED"):
        calls.start(bot_id, timeout=60)
