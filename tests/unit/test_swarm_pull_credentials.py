"""The credentials with which nodes pull a bot's image, given anew with each start."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.config import RegistryConfig
from container_manager.operation import carry_out
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_operations import create
from tests.unit.swarm_world import SwarmWorld


@pytest.fixture
def registries(tmp_path: Path) -> RegistryConfig:
    """It has the password ``first`` for the registry of the bot's image."""
    registries = RegistryConfig(tmp_path / "registries.json")
    write(registries, "first")
    return registries


@pytest.fixture
def lifecycle(make_lifecycle: Callable[..., SwarmLifecycle], registries: RegistryConfig) -> SwarmLifecycle:
    """With a bot that was created."""
    lifecycle = make_lifecycle(registry_config=registries)
    create(lifecycle)
    return lifecycle


def write(registries: RegistryConfig, password: str) -> None:
    entry = {"username": "a", "password": password}
    registries.path.write_text(json.dumps({"auths": {"registry.test": entry}}), encoding="utf-8")


def passwords(world: SwarmWorld) -> list[str]:
    given = [json.loads(base64.urlsafe_b64decode(each)) for each in world.registry_auths if each]
    assert {"registry.test"} == {each["serveraddress"] for each in given}
    return [each["password"] for each in given]


def test_each_start_and_restart_gives_nodes_the_credentials_that_are_there_by_now(
    world: SwarmWorld, lifecycle: SwarmLifecycle, registries: RegistryConfig
) -> None:
    write(registries, "second")
    carry_out(lifecycle.start_container(BOT))
    carry_out(lifecycle.start_container(BOT))
    assert ["second"] == passwords(world)
    write(registries, "third")
    carry_out(lifecycle.restart_container(BOT))
    assert ["second", "third"] == passwords(world)


@pytest.mark.parametrize(
    "content",
    [None, "{", '{"auths": {"registry.test": {"auth": "?"}}}', '{"credsStore": "none-of-this-name"}', "{}"],
    ids=["no file", "no JSON", "no base64", "no such helper", "nothing"],
)
def test_a_start_without_usable_credentials_leaves_nodes_those_that_they_have(
    world: SwarmWorld, lifecycle: SwarmLifecycle, registries: RegistryConfig, content: str | None
) -> None:
    if content is None:
        registries.path.unlink()
    else:
        registries.path.write_text(content, encoding="utf-8")
    carry_out(lifecycle.start_container(BOT))
    assert {None} == set(world.registry_auths)
