"""The doctor's checks of a real swarm."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_manager.backends.swarm.service_spec import Weaker
from container_manager.bot_directories import RootDirectory
from container_manager.doctor import Finding, Verdict
from container_manager.doctor.swarm_checks import check_swarm
from dev import docker_command
from dev.swarm import SwarmBed
from tests.support.waiting import wait_until


def check(bed: SwarmBed, root: Path, *, named: bool = True) -> dict[str, Finding]:
    engines = {node.name: node.docker_url for node in bed.nodes} if named else {}
    found = check_swarm(
        bed.managers[0].docker_url,
        node_engines=engines,
        shared_state=RootDirectory(root, root),
        accepted=[Weaker.NO_NEW_PRIVILEGES],
    )
    return {finding.name: finding for finding in found}


@pytest.fixture
def bots(bed: SwarmBed, swarm_image: str) -> Iterator[None]:
    """A bot on each node, with one directory that is the same on all of them, and one that is not."""
    bot_id = str(uuid.uuid4())
    for root in (bed.shared, *(node.local for node in bed.nodes)):
        (root / bot_id).mkdir()
    url = bed.managers[0].docker_url
    docker_command.run(
        *(url, "service", "create", "--detach", "--name", bot_id, "--mode", "global", "--stop-grace-period", "0s"),
        *("--mount", f"type=bind,source={bed.shared}/{bot_id},target=/shared"),
        *("--mount", f"type=bind,source={bed.local}/{bot_id},target=/local"),
        *("--container-label", "botmaker.managed=true", swarm_image, "sleep", "600"),
    )
    states = (url, "service", "ps", "--format", "{{.CurrentState}}", bot_id)
    wait_until(lambda: docker_command.run(*states).count(b"Running") == len(bed.nodes), "one runs on each node", 30)
    yield
    docker_command.run(url, "service", "rm", bot_id)
    for root in (bed.shared, *(node.local for node in bed.nodes)):
        (root / bot_id).rmdir()


def doctor(bed: SwarmBed, root: Path, listen: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status and the findings by their names, as an operator gets them."""
    command = [
        *(sys.executable, "-m", "container_manager", "doctor", "--output=json", "--backend=swarm"),
        *(f"--docker-host={bed.managers[0].docker_url}", f"--state-root={root}", "--placement=floating"),
        *(f"--node-engine={node.name}={node.docker_url}" for node in bed.nodes),
        *("--allow-weaker=no-new-privileges", f"--listen=unix://{listen}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "" == done.stderr
    return done.returncode, {found["check"]: found for found in json.loads(done.stdout)}


@pytest.mark.usefixtures("bots")
def test_what_the_doctor_says_of_a_swarm(bed: SwarmBed, session_dir: Path) -> None:
    status, found = doctor(bed, bed.shared, session_dir / "s.sock")
    version = found["node versions"]["detail"]
    expected = {
        "swarm": "ok",
        "managers": "warning",
        "bots on managers": "warning",
        "nodes": "ok",
        "node versions": "ok",
        "node engines": "ok",
        "no-new-privileges": "warning" if version.startswith("20.10") else "ok",
        "cgroup namespaces": "ok",
        "node clocks": "ok",
        "shared storage": "ok",
    }
    assert (0, expected) == (status, {name: found[name]["verdict"] for name in expected})
    assert set() == {"default image", "secrets root", "storage driver"} & set(found), "they are of a single engine"
    assert Verdict.FAILED is check(bed, bed.local)["shared storage"].verdict, "each node has its own at that path"
    assert "all nodes agree" in check(bed, bed.shared, named=False)["node clocks"].detail, "also by the tasks alone"


@pytest.mark.slow
def test_the_doctor_finds_a_node_that_is_down_and_an_engine_that_does_not_answer(bed: SwarmBed) -> None:
    bed.workers[0].power_cut()
    wait_until(lambda: check(bed, bed.shared)["nodes"].verdict is Verdict.FAILED, "the manager has noticed", 30)
    found = check(bed, bed.shared)
    assert "from n2" in found["nodes"].detail
    assert Verdict.FAILED is found["node engines"].verdict
