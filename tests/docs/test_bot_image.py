"""The bot image as its README runs it: the real image and the docker command, without the service."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.docs.conftest import GATEWAY_PORT
from tests.docs.documents import blocks
from tests.docs.sandbox import Sandbox

README = "images/openclaw/README.md"
KEYS = {"MY_ANTHROPIC_KEY": "sk-ant-of-a-test", "MY_TELEGRAM_BOT": "123456:token-of-a-test"}


@pytest.fixture
def container(engine: docker.DockerClient) -> Iterator[str]:
    """A container name instead of ``bot``; the container and its volume are removed afterwards."""
    name = f"botmaker-test-{uuid.uuid4()}"
    yield name
    for found in engine.containers.list(all=True, filters={"name": f"^/{name}$"}):
        found.remove(force=True)
    for volume in engine.volumes.list(filters={"name": f"{name}-state"}):
        volume.remove()


@pytest.fixture
def sandbox(engine_url: str, ports: dict[str, str], session_dir: Path, container: str) -> Sandbox:
    """A sandbox for the README's commands, with another container name and port."""
    directory = session_dir / "image"
    directory.mkdir()
    names = {
        "bot": container,
        f"127.0.0.1:{GATEWAY_PORT}": f"127.0.0.1:{ports[GATEWAY_PORT]}",
        # Allow for a busy machine.
        "--retry 120": "--retry 400",
    }
    return Sandbox(directory, README, names, {"DOCKER_HOST": engine_url, **KEYS})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give secret files to the image's user")
@pytest.mark.usefixtures("openclaw_image")
def test_the_bot_image_does_what_its_readme_says_without_the_service(
    engine: docker.DockerClient, container: str, sandbox: Sandbox
) -> None:
    [block] = [block for block in blocks(README) if "docker run" in block.text]
    done = sandbox.shell(block.text, guarded=False, timeout_seconds=550)
    assert 0 == done.returncode, done.stdout
    assert '{"ok":true,"status":"live"}' in done.stdout
    state = engine.api.inspect_container(container)["State"]
    assert "exited" == state["Status"]
    # Killed, where what it has begun outlasts its grace: a channel that nobody answers, on a machine without network.
    assert state["ExitCode"] in {0, 137}
