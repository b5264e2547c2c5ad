"""GetStats has what a running bot occupies on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.serving import running_server
from tests.support.waiting import wait_until

MIB = 1024 * 1024
WRITE = """
head -c 3145728 /dev/urandom >/written
echo done
exec sleep 99999
"""


@pytest.fixture
def state_root(session_dir: Path) -> Iterator[Path]:
    path = session_dir / "measured-state"
    path.mkdir(mode=0o755)
    return path


def test_the_state_and_the_writable_layer_are_measured_and_no_link_is_followed(
    service_config: BackendConfig, bots: Bots, state_root: Path, session_dir: Path
) -> None:
    (session_dir / "elsewhere").write_bytes(os.urandom(8 * MIB))
    service = replace(service_config, state_root=RootDirectory(state_root, state_root))
    address = f"unix://{session_dir}/measured/s.sock"
    with (
        running_server(ServerConfig(service=service, listen=(address,))) as addresses,
        connect(addresses[0]) as channel,
    ):
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        bot_id, idle = bots.new(), bots.new()
        calls.create(bot_id, "sh", "-c", WRITE, network="none")
        (state_root / bot_id / "database").write_bytes(os.urandom(2 * MIB))
        (state_root / bot_id / "link").symlink_to(session_dir / "elsewhere")
        calls.start(bot_id)
        calls.create(idle, "sleep", "99999", network="none")
        calls.start(idle)
        bots.wait_for_log(bot_id, b"done")

        def stats() -> dict[str, pb.ContainerStats] | None:
            """Of both; an engine that is slow is asked again."""
            containers = observer.GetStats(pb.GetStatsRequest(bot_ids=[bot_id, idle])).containers
            return {each.bot_id: each for each in containers} if len(containers) == 2 else None

        found = wait_until(stats, "both are measured")
        assert 2 * MIB <= found[bot_id].state_bytes < 2 * MIB + MIB // 4
        assert 3 * MIB <= found[bot_id].layer_bytes < 3 * MIB + MIB // 4
        assert found[idle].HasField("layer_bytes")
        assert found[idle].layer_bytes < MIB // 4
        assert found[idle].state_bytes < MIB // 4
