"""The commands that ``make serve`` prints can be pasted, and start a real bot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.gateway import is_live
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
# A developer may have the demo running in its usual directory and port.
PROGRAM = """
import sys, pathlib, dev.serve as serve
serve._STATE, serve._HOST_PORT = pathlib.Path(sys.argv[1]), int(sys.argv[2])
serve.main()
"""


@pytest.fixture
def state(engine: docker.DockerClient, all_bot_ids: list[str]) -> Iterator[Path]:
    """A directory instead of ``.dev``; the container of its demo bot is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="serve-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
        bot_id = (Path(directory) / "demo-bot").read_text().strip()
        all_bot_ids.append(bot_id)
        for container in engine.containers.list(all=True, filters={"label": f"botmaker.bot-id={bot_id}"}):
            container.remove(force=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give secret files to the image's user")
@pytest.mark.usefixtures("openclaw_image")
def test_the_printed_calls_create_start_and_show_a_real_bot(state: Path, engine_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    output = state / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(state), str(port)],
            cwd=CHECKOUT,
            env={**os.environ, "DOCKER_HOST": engine_url},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "container-manager serving on" in output.read_text(), "it serves", 120)
        calls = re.findall(r"^(\S*buf curl .*?/(\w+))$", output.read_text(), re.MULTILINE | re.DOTALL)
        assert [name for _, name in calls] == ["CreateContainer", "StartContainer", "GetContainerStatus"]
        answers = [subprocess.run(["sh", "-c", call], capture_output=True, text=True, check=True) for call, _ in calls]
        assert "CONTAINER_STATE_RUNNING" in answers[-1].stdout
        wait_until(lambda: is_live(port), "the bot's gateway is live", 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
