"""UpgradeContainer over gRPC, and a bot to upgrade."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from tests.support.calls import Calls
from tests.support.memory_backend import MemoryBots


def upgraded(
    maintainer: ContainerMaintainerStub, bot_id: str, image: str = "bot:2", request_id: str = "", **fields: Any
) -> list[pb.UpgradeContainerResponse]:
    """UpgradeContainer; the last message of each phase."""
    request = pb.UpgradeContainerRequest(bot_id=bot_id, image=image, request_id=request_id or str(uuid4()), **fields)
    messages = {each.phase: each for each in maintainer.UpgradeContainer(request, timeout=60)}
    return list(messages.values())


def status_of(calls: Calls, bot_id: str) -> manager_pb.ContainerStatus:
    """The status of a bot with a container."""
    status = calls.status(bot_id)
    assert status is not None
    return status


def bot_to_upgrade(bots: MemoryBots, calls: Calls, states: Path) -> str:
    """A running bot with a state."""
    bot_id = bots.new()
    calls.run(bot_id, "serve", image="bot:1", environment={"A": "b"}, labels={"tier": "one"})
    (states / bot_id / "cache").mkdir(parents=True)
    for path in ("cache/file", "data"):
        (states / bot_id / path).write_text("old")
    return bot_id
