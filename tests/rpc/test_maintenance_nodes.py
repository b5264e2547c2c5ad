"""Upgrades, backups and restores of bots whose machine cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from container_manager.errors import NodeUnavailableError
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots

CHANGING = ("stop_container", "start_container", "remove_container", "create_container", "prepare_image")
AWAY = NodeUnavailableError("node n2 cannot be reached", node="n2")


@pytest.fixture
def bot_id(bots: MemoryBots, calls: Calls, roots: Path) -> str:
    """A running bot with a state."""
    bot_id = bots.new()
    calls.run(bot_id, "serve", image="bot:1")
    (roots / "states" / bot_id).mkdir()
    return bot_id


def test_nothing_begins_while_the_bots_machine_cannot_be_reached(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, bot_id: str
) -> None:
    names = {"bot_id": bot_id, "request_id": "one"}
    *_, last = maintainer.CreateBackup(pb.CreateBackupRequest(**names, stop_and_restart=True), timeout=60)
    memory.change(bot_id, node="n2", node_unreachable=True)
    before = memory.seen(*CHANGING)
    names["request_id"] = "two"
    for call in (
        lambda: maintainer.UpgradeContainer(pb.UpgradeContainerRequest(**names, image="bot:2"), timeout=60),
        lambda: maintainer.CreateBackup(pb.CreateBackupRequest(**names), timeout=60),
        lambda: maintainer.RestoreBackup(pb.RestoreBackupRequest(**names, backup_id=last.backup.backup_id), timeout=60),
    ):
        with fails_with("UNAVAILABLE", "NODE_UNAVAILABLE") as caught:
            list(call())
        assert "n2" == caught[0].metadata["node"]
    assert before == memory.seen(*CHANGING)


@pytest.mark.parametrize("step", ["stop_container", "remove_container", "start_container"])
def test_an_upgrade_waits_for_a_machine_that_cannot_be_reached_for_a_while(
    maintainer: ContainerMaintainerStub, memory: MemoryBackend, calls: Calls, bot_id: str, step: str
) -> None:
    memory.script(step, AWAY, None)
    request = pb.UpgradeContainerRequest(bot_id=bot_id, request_id="one", image="bot:2")
    *_, last = maintainer.UpgradeContainer(request, timeout=60)
    assert pb.UPGRADE_PHASE_COMMITTED == last.phase
    status = calls.status(bot_id)
    assert status is not None
    assert "bot:2" == status.image
