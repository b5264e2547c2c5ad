"""Six real bots started at once through the service: with admission, few of them start at a time, and all get ready."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import DockerServiceConfig, ServerConfig
from container_manager_client import connect
from tests.support.backend_contract import put_secrets
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.serving import running_server

BOTS, PATIENCE_SECONDS = 6, 900.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]


@pytest.fixture
def channel(
    service_config: DockerServiceConfig, openclaw_image: str, session_dir: Path, request: pytest.FixtureRequest
) -> Iterator[grpc.Channel]:
    """A service that starts as many bots at once as the test's parameter says."""
    state = session_dir / f"starts-state-{request.param}"
    state.mkdir(mode=0o755)
    service = replace(service_config, default_image=openclaw_image, state_root=RootDirectory(state, state))
    listen = f"unix://{session_dir}/starts/{request.param}.sock"
    config = ServerConfig(service=service, listen=(listen,), start_concurrency=request.param)
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        yield channel


@pytest.mark.parametrize("channel", [len(os.sched_getaffinity(0)), BOTS], indirect=True, ids=["admitted", "at once"])
def test_all_bots_that_are_started_at_once_become_ready(
    channel: grpc.Channel, bots: Bots, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without admission, how long it takes is told, and nothing is asserted."""
    calls, provisioner = Calls(ContainerManagerStub(channel)), BotProvisionerStub(channel)
    maintainer = ContainerMaintainerStub(channel)
    bot_ids = [bots.bare() for _ in range(BOTS)]
    for bot_id in bot_ids:
        put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"t" * 48, OPENAI_API_KEY=b"sk-none")
        calls.create(bot_id, ai_provider="openai", ai_model="gpt-5.4")
    begun = time.monotonic()

    def seconds_to_ready(bot_id: str) -> float | None:
        calls.start(bot_id, timeout=PATIENCE_SECONDS)
        while (passed := time.monotonic() - begun) < PATIENCE_SECONDS:
            events = list(maintainer.RunAction(pb.RunActionRequest(bot_id=bot_id, action="ready"), timeout=180))
            if events[-1].end.exit_code == 0:
                return passed
            time.sleep(2)
        return None

    with ThreadPoolExecutor(BOTS) as pool:
        took = list(pool.map(seconds_to_ready, bot_ids))
    ready = sorted(seconds for seconds in took if seconds is not None)
    with capsys.disabled():
        median = f"{statistics.median(ready):.0f} s" if ready else "never"
        print(f"\n{request.node.callspec.id}: {len(ready)} of {BOTS} ready, median {median}, {ready}")  # noqa: T201
    for bot_id in bot_ids:
        calls.remove(bot_id, grace=0)
    if "admitted" in request.node.callspec.id:
        assert BOTS == len(ready)
