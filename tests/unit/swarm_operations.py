"""Operations on the bots of a swarm in memory, which wait for hardly anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.swarm import bot_services, left_containers, runs, task_watch
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.backends.swarm.records import left_on
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.model import ContainerConfig, ContainerStatus
from container_manager.operation import carry_out
from tests.unit.swarm_documents import BOT, IMAGE
from tests.unit.swarm_world import NoSecrets, SwarmWorld

CONFIG = ContainerConfig(image=IMAGE)
GRACE_SECONDS = 1


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all waits but a grace period take a fraction of a second."""
    for module, seconds in {
        task_watch: {"_PAUSE_SECONDS": 0.002},
        bot_services: {"_NODES_SECONDS": 0.0},
        left_containers: {"_PAUSE_SECONDS": 0.002, "_MISSED_SECONDS": 0.1},
        runs: {
            "_NODES_SECONDS": 0.01,
            "_UNPLACED_SECONDS": 0.05,
            "_CHECKED_SECONDS": 0.05,
            "_IMAGE_CHECKED_SECONDS": 0.1,
        },
    }.items():
        for name, value in seconds.items():
            monkeypatch.setattr(module, name, value)


def lifecycle_of(
    world: SwarmWorld, node_engines: Mapping[str, str], placement: str = "floating", **config: Any
) -> SwarmLifecycle:
    """The operations of a service on this swarm."""
    root = RootDirectory(Path("/nonexistent"), Path("/nonexistent"))
    defaults = {"secrets_root": root, "default_image": IMAGE, "grace_seconds": GRACE_SECONDS}
    ours = BackendConfig(**{**defaults, **config})
    swarm = SwarmConfig(placement, node_engines=dict(node_engines))
    return SwarmLifecycle(world, ours, swarm, NoSecrets())  # type: ignore[arg-type]


def create(lifecycle: SwarmLifecycle, bot_id: str = BOT, **arguments: Any) -> str:
    return carry_out(lifecycle.create_container(bot_id, CONFIG, **arguments)).container_id


def run(lifecycle: SwarmLifecycle, bot_id: str = BOT) -> None:
    create(lifecycle, bot_id)
    carry_out(lifecycle.start_container(bot_id))


def status(lifecycle: SwarmLifecycle) -> ContainerStatus:
    found = lifecycle.get_container_status(BOT)
    assert found is not None
    return found


def left(world: SwarmWorld) -> set[str]:
    (service,) = world.services.values()
    return set(left_on(service))
