"""Many real bots that start: few at a time through the service, all at once when the engine revives them.

The times are printed, beside the load of the machine, and not asserted: they are for docs/operations.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import docker
import pytest

from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from dev.engine import PrivateEngine
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.gateway import GATEWAY_PORT, is_ready_at
from tests.support.provisioning_calls import put_secrets
from tests.support.serving import running_server

BOTS, PATIENCE_SECONDS = 6, 900.0
CORES = len(os.sched_getaffinity(0))
COPY = 'docker --host "$1" save "$3" | docker --host "$2" load --quiet'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]


@contextmanager
def made_bots(service: BackendConfig, bots: Bots, root: Path, count: int, at_once: int) -> Iterator[Calls]:
    """A service that starts so many bots at once, with so many bots that were never started."""
    state = root / f"{count}-{at_once}"
    state.mkdir(mode=0o755, exist_ok=True)
    config = ServerConfig(
        service=replace(service, state_root=RootDirectory(state, state)),
        listen=(f"unix://{root}/{count}-{at_once}-s/s.sock",),
        start_concurrency=at_once,
    )
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        calls, provisioner = Calls(ContainerManagerStub(channel)), BotProvisionerStub(channel)
        bot_ids = [bots.bare() for _ in range(count)]
        for bot_id in bot_ids:
            put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"t" * 48, OPENAI_API_KEY=b"sk-none")
            calls.create(bot_id, ai_provider="openai", ai_model="gpt-5.4")
        yield calls
        for bot_id in bot_ids:
            calls.remove(bot_id, grace=0)


def seconds_to_ready(bots: Bots, bot_id: str, begun: float) -> float | None:
    """When the bot's gateway says that it is ready; ``None``: not in time."""
    while (passed := time.monotonic() - begun) < PATIENCE_SECONDS:
        address = bots.inspect(bot_id)["NetworkSettings"]["IPAddress"]
        if address and is_ready_at(address, GATEWAY_PORT):
            return passed
        time.sleep(1)
    return None


def shown(capsys: pytest.CaptureFixture[str], what: str, took: Sequence[float | None], load: float) -> int:
    """Print what it took; how many bots are ready."""
    ready = sorted(seconds for seconds in took if seconds is not None)
    median = f"{statistics.median(ready):.0f} s" if ready else "never"
    times = ", ".join(f"{seconds:.0f}" for seconds in ready)
    with capsys.disabled():
        print(f"\n{what}: {len(ready)} of {len(took)} ready, median {median} ({times}), load before {load:.1f}")  # noqa: T201
    return len(ready)


@pytest.mark.parametrize("at_once", [CORES, BOTS], ids=["admitted", "at once"])
def test_all_bots_that_are_started_through_the_service_become_ready(  # noqa: PLR0917 - fixtures
    service_config: BackendConfig,
    openclaw_image: str,
    session_dir: Path,
    bots: Bots,
    at_once: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = replace(service_config, default_image=openclaw_image)
    with made_bots(service, bots, session_dir, BOTS, at_once) as calls, ThreadPoolExecutor(BOTS) as pool:
        load, begun = os.getloadavg()[0], time.monotonic()

        def start(bot_id: str) -> float | None:
            calls.start(bot_id, timeout=PATIENCE_SECONDS)
            return seconds_to_ready(bots, bot_id, begun)

        took = list(pool.map(start, bots.ids))
        ready = shown(capsys, f"{BOTS} bots, {at_once} at once", took, load)
    if at_once < BOTS:
        # Of those that are not admitted in order, the time is measured alone.
        assert BOTS == ready


def test_bots_that_an_engine_revives_are_all_started_at_once(  # noqa: PLR0917 - fixtures
    private_engine: PrivateEngine,
    engine_url: str,
    openclaw_image: str,
    secrets_root: Path,
    session_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after a power cut. How many of them become ready in time depends on the machine, and is printed."""
    subprocess.run(["sh", "-c", COPY, "sh", engine_url, private_engine.url, openclaw_image], check=True)
    root = RootDirectory(secrets_root, secrets_root)
    service = BackendConfig(secrets_root=root, docker_host=private_engine.url, default_image=openclaw_image)
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    for count in (BOTS, 2 * BOTS):
        bots = Bots(client, secrets_root)
        with made_bots(service, bots, session_dir, count, CORES) as calls, ThreadPoolExecutor(count) as pool:
            for bot_id in bots.ids:
                # One after another: the next one waits until this one is ready.
                calls.start(bot_id, timeout=PATIENCE_SECONDS)
                assert seconds_to_ready(bots, bot_id, time.monotonic()) is not None
            before = {bot_id: bots.inspect(bot_id)["State"]["StartedAt"] for bot_id in bots.ids}
            private_engine.kill(containers=True)
            load, begun = os.getloadavg()[0], time.monotonic()
            private_engine.start()
            took = list(pool.map(partial(seconds_to_ready, bots, begun=begun), bots.ids))
            shown(capsys, f"{count} bots after a restart of the engine", took, load)
            assert [] == [each for each in bots.ids if bots.inspect(each)["State"]["StartedAt"] <= before[each]]
    client.close()
