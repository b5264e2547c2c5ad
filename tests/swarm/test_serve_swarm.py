"""The commands that ``make serve-swarm`` prints can be pasted, and start a real bot on a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.images import CHECKOUT
from dev.swarm import SwarmBed
from tests.support.bed_remains import remains, runtime_of
from tests.support.waiting import wait_until

PROGRAM = """
import pathlib, sys, dev.serve_swarm as serve
serve._STATE, serve._BED = map(pathlib.Path, sys.argv[1:])
sys.exit(serve.main())
"""
# Not removed: the bot image on three nodes, which takes minutes to copy and to delete.
BED = CHECKOUT / ".dev" / "swarm-tests"
LIVE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)"


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory instead of ``.dev/swarm``, where a developer may have the demo running."""
    with tempfile.TemporaryDirectory(prefix="serve-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def is_live(bed: SwarmBed, node: str) -> bool:
    (address,) = [each.address for each in bed.nodes if each.name == node]
    command = [*bed.enter_switch, sys.executable, "-c", LIVE, f"http://{address}:18789/healthz"]
    return subprocess.run(command, capture_output=True, check=False).stdout == b"200\n"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("openclaw_image")
def test_the_printed_calls_create_start_and_show_a_real_bot(state: Path, engine_url: str) -> None:
    output = state / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(state), str(BED)],
            cwd=CHECKOUT,
            env={**os.environ, "DOCKER_HOST": engine_url},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: "Ctrl-C here" in output.read_text() or process.poll() is not None, "the calls are printed", 900
        )
        calls = re.findall(r"^(\S*buf curl .*?/(\w+))$", output.read_text(), re.MULTILINE | re.DOTALL)
        assert [name for _, name in calls] == ["CreateContainer", "StartContainer", "GetContainerStatus"]
        answers = [subprocess.run(["sh", "-c", call], capture_output=True, text=True, check=True) for call, _ in calls]
        status = json.loads(answers[-1].stdout)["status"]
        assert ("CONTAINER_STATE_RUNNING", True) == (status["state"], status["node"] in {"n2", "n3"})
        bed = SwarmBed(BED)
        runtime = runtime_of(BED)
        wait_until(lambda: is_live(bed, status["node"]), "the bot's gateway is live", 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert [] == remains(state / "nothing", runtime)
    finally:
        process.terminate()
        process.wait()
