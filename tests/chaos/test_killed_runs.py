"""A run of `make test` that is killed, terminated or interrupted leaves no engine, process, mount, socket or bridge."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev.docker_command import answers
from dev.remains import start_ticks
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / ".dev" / "packages" / "busybox-static"
MARK = "KILLED_RUN"
RECORD = "engine.json"
TEST = """
import os, subprocess, time
from pathlib import Path
from dev.engine import PrivateEngine
from dev.images import ensure_test_image

def test_has_an_engine_of_its_own_and_waits(tmp_path):
    with PrivateEngine(Path("own")) as own:
        for url in (own.url, os.environ["DOCKER_HOST"]):
            command = ["docker", "--host", url, "run", "--detach", "--stop-signal=KILL", ensure_test_image(url)]
            subprocess.run([*command, "sleep", "600"], check=True)
        subprocess.Popen(["sleep", "600"])
        Path("ready").touch()
        time.sleep(600)
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private engine needs root"),
    pytest.mark.skipif(answers("unix:///var/run/docker.sock"), reason="the run would use the machine's own engine"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="nothing ties a process to its parent's life"),
]


@dataclass
class KilledRun:
    """A `make test` in a checkout of its own, with one job, whose only test never ends."""

    checkout: Path
    mark: str
    process: subprocess.Popen[bytes]

    def __post_init__(self) -> None:
        self.engines: set[str] = set()
        """The names of their directories in /tmp, and of their control groups."""
        self.bridges: dict[str, str] = {}
        """The indexes of their interfaces by their names: a name may soon be that of another engine's."""
        self.sockets: set[Path] = set()

    def processes(self) -> dict[int, str]:
        """The live processes of the run by their ids, with their command lines."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in entry.read_bytes() and start_ticks(int(entry.parent.name)):
                    command = entry.with_name("cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.parent.name)] = command.decode(errors="replace")
        return found

    def pid(self, words: str) -> int:
        """The first process with these words on its command line."""
        found = [pid for pid, command in self.processes().items() if words in command]
        return min(found, key=lambda pid: start_ticks(pid) or 0)

    def records(self) -> list[Path]:
        """The records of its two engines, as far as they have begun."""
        return [
            path
            for path in (self.checkout / ".dev" / "engine" / RECORD, self.checkout / "own" / RECORD)
            if path.exists()
        ]

    def interfaces(self) -> dict[str, str]:
        """The indexes of all network interfaces by their names."""
        found = {}
        for path in Path("/sys/class/net").iterdir():
            with contextlib.suppress(OSError):
                found[path.name] = (path / "ifindex").read_text().strip()
        return found

    def remains(self) -> list[str]:
        """What there still is of its engines and processes."""
        left = [f"process {command}" for command in self.processes().values()]
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        interfaces = self.interfaces()
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
        for record in self.records():
            runtime = json.loads(record.read_text(encoding="utf-8"))["runtime"]
            left += [f"engine of {record}"] if runtime else []
        for name in self.engines:
            paths = [Path("/tmp", name), Path("/sys/fs/cgroup", name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]
            left += [f"directory {path}" for path in paths if path.exists()]
            left += [f"mount {line}" for line in mounts if name in line]
        for name, index in self.bridges.items():
            left += [f"interface {name}"] if index in interfaces.values() else []
            left += [f"rule for {name}"] if name not in interfaces and f" {name} " in rules else []
        left += [f"mount {line}" for line in mounts if str(self.checkout) in line]
        return left + [f"socket {path}" for path in self.sockets if path.exists()]

    def look(self) -> None:
        """Take note of the names of its engines, of their bridges and of the sockets of their containers."""
        interfaces = self.interfaces()
        for record in self.records():
            entries = json.loads(record.read_text(encoding="utf-8"))
            self.engines |= {Path(entries["runtime"]).name} - {""}
            if entries["bridge"] in interfaces:
                self.bridges[entries["bridge"]] = interfaces[entries["bridge"]]
            # Directories come and go meanwhile.
            with contextlib.suppress(OSError):
                for file in Path(entries["runtime"] or "/nonexistent").glob("x/containerd/**/address"):
                    self.sockets.add(Path(file.read_text(encoding="utf-8").removeprefix("unix://")))


@pytest.fixture
def run() -> Iterator[KilledRun]:
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        checkout = Path(directory)
        shutil.copytree(CHECKOUT / "dev", checkout / "dev")
        shutil.copy(CHECKOUT / "Makefile", checkout)
        # All that the test image needs.
        shutil.copytree(PACKAGE, checkout / PACKAGE.relative_to(CHECKOUT), symlinks=True)
        (checkout / "dev" / "env.sh").write_text("#!/bin/sh\n")
        (checkout / ".venv").symlink_to(sys.prefix)
        (checkout / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
        (checkout / "tests" / "engine").mkdir(parents=True)
        (checkout / "tests" / "engine" / "test_it.py").write_text(TEST)
        mark = uuid.uuid4().hex
        environment = {name: value for name, value in os.environ.items() if name not in ("DOCKER_HOST", "MAKEFLAGS")}
        environment |= {MARK: mark, "PYTHONPATH": str(checkout)}
        with (checkout / "output").open("wb") as output:
            process = subprocess.Popen(
                ["make", "test", "JOBS=engine"],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        run = KilledRun(checkout, mark, process)
        try:
            yield run
        finally:
            process.kill()
            process.wait()
            wait_until(lambda: not run.remains(), "nothing is left", 120)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        pytest.param("make test", signal.SIGKILL, id="make is killed"),
        pytest.param("make test", signal.SIGTERM, id="make is terminated", marks=pytest.mark.slow),
        pytest.param("-m dev.run --", signal.SIGKILL, id="the one who waits is killed", marks=pytest.mark.slow),
        pytest.param("-m dev.run --keep", signal.SIGKILL, id="the keeper is killed"),
        pytest.param("-m dev.run --keep", signal.SIGTERM, id="the keeper is terminated", marks=pytest.mark.slow),
        pytest.param("make --keep-going", signal.SIGKILL, id="what runs the jobs is killed", marks=pytest.mark.slow),
        pytest.param("", signal.SIGINT, id="Ctrl-C"),
    ],
)
def test_a_run_that_is_ended_half_way_leaves_nothing_behind(run: KilledRun, words: str, number: int) -> None:
    wait_until(lambda: (run.checkout / "ready").exists() or run.process.poll() is not None, "its test runs", 90)
    run.look()
    assert (2, 2) == (len(run.engines), len(run.bridges)), (run.checkout / "output").read_text()
    assert run.sockets
    if words:
        os.kill(run.pid(words), number)
    else:
        os.killpg(run.process.pid, number)
    assert 0 != run.process.wait(120)
    wait_until(lambda: not run.processes(), "no process is left", 120)
    assert [] == run.remains()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_run_that_is_killed_at_any_moment_leaves_nothing_behind(run: KilledRun, seed: int) -> None:
    draw = random.Random(seed)
    number, end = draw.choice([signal.SIGKILL, signal.SIGTERM]), time.monotonic() + draw.random() * 8
    while time.monotonic() < end:
        run.look()
        time.sleep(0.02)
    run.process.send_signal(number)
    while run.process.poll() is None or run.processes():
        run.look()
    assert [] == run.remains()
