"""The swarm of machines on this one: what its faults do, and that nothing is left of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from dev import docker_command
from dev.docker_command import DockerError, answers, succeeds
from dev.images import TEST_IMAGE, ensure_test_image
from dev.swarm import Node, SwarmBed, SwarmError
from dev.swarm.record import clear_abandoned
from tests.support.bed_remains import remains, running, runtime_of, watcher_of
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
OWNER = """
import sys, time
from pathlib import Path
from dev.swarm import SwarmBed
with SwarmBed(Path(sys.argv[1]), nodes=1) as bed:
    Path(sys.argv[1], "ready").touch()
    time.sleep(600)
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """The directory of a bed that the test makes for itself."""
    with tempfile.TemporaryDirectory(prefix="bed-") as directory:
        yield Path(directory)


@pytest.fixture
def words() -> str:
    """A command of which there is only one."""
    return f"sleep {random.randrange(10**6, 10**9)}"


def docker_run(node: Node, *arguments: str) -> str:
    return docker_command.run(node.docker_url, *arguments).decode().strip()


def seen(manager: Node) -> dict[str, tuple[str, str]]:
    """The state and role of each node, as the manager sees them."""
    client = docker.APIClient(manager.docker_url, version="auto")
    try:
        return {
            node["Description"]["Hostname"]: (node["Status"]["State"], node["Spec"]["Role"]) for node in client.nodes()
        }
    finally:
        client.close()


def test_one_manager_and_two_workers_are_one_swarm(bed: SwarmBed) -> None:
    assert {"n1": ("ready", "manager"), "n2": ("ready", "worker"), "n3": ("ready", "worker")} == seen(bed.managers[0])
    assert ["n1", "n2", "n3"] == [node.name for node in bed.nodes]
    assert bed.nodes == (*bed.managers, *bed.workers)
    assert ["n1", "n2", "n3"] == [docker_run(node, "info", "--format", "{{.Name}}") for node in bed.nodes]


def test_an_image_is_on_every_node_and_in_the_registry(bed: SwarmBed, swarm_image: str) -> None:
    names = [TEST_IMAGE, swarm_image]
    ids = {docker_run(node, "inspect", "--format", "{{.Id}}", name) for node in bed.nodes for name in names}
    assert 1 == len(ids)
    client = docker.APIClient(bed.managers[0].docker_url, version="auto")
    digest = client.inspect_distribution(swarm_image)["Descriptor"]["digest"]
    client.close()
    (known,) = {docker_run(node, "inspect", "--format", "{{index .RepoDigests 0}}", swarm_image) for node in bed.nodes}
    assert f"{swarm_image.rpartition(':')[0]}@{digest}" == known


def test_files_are_shared_by_all_nodes_or_a_nodes_own(bed: SwarmBed) -> None:
    (bed.shared / "f").write_text("shared")
    for node in bed.workers:
        (node.local / "f").write_text(node.name)
        mounts = [f"--volume={bed.shared}:/shared", f"--volume={bed.local}:/local"]
        found = docker_run(node, "run", "--rm", *mounts, TEST_IMAGE, "cat", "/shared/f", "/local/f")
        assert f"shared{node.name}" == found


def test_after_a_power_cut_a_node_boots_with_its_data(bed: SwarmBed, words: str) -> None:
    node = bed.workers[0]
    container = docker_run(node, "run", "--detach", TEST_IMAGE, "sh", "-c", f"{words}; true")
    (node.local / "kept").touch()
    assert running(words)
    node.power_cut()
    assert (False, set()) == (node.on, running(words))
    assert not answers(node.docker_url)
    with pytest.raises(SwarmError, match="is off"):
        node.cut_link()
    node.boot()
    assert "exited" == docker_run(node, "inspect", "--format", "{{.State.Status}}", container)
    assert "active" == docker_run(node, "info", "--format", "{{.Swarm.LocalNodeState}}")
    assert (node.local / "kept").exists()
    docker_run(node, "rm", container)
    bed.wait_until_ready()


def test_a_node_that_is_cut_off_reaches_nothing_until_it_is_healed(bed: SwarmBed) -> None:
    node = bed.workers[1]
    connect = [*node.enter, "timeout", "1", "bash", "-c", f"</dev/tcp/{bed.registry.replace(':', '/')}"]
    codes = [subprocess.run(connect, check=False).returncode]
    node.cut_link()
    codes.append(subprocess.run(connect, check=False).returncode)
    assert answers(node.docker_url), "its engine can still be reached from outside"
    node.heal_link()
    codes.append(subprocess.run(connect, check=False).returncode)
    assert [0, 124, 0] == codes


def test_a_node_learns_at_once_that_it_reaches_nothing_outside(bed: SwarmBed) -> None:
    with pytest.raises(DockerError, match="Error response from daemon"):
        docker_command.run(bed.workers[0].docker_url, "pull", "nowhere.invalid/bot:1", timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "mend"), [(Node.cut_link, Node.heal_link), (Node.power_cut, Node.boot)])
def test_a_manager_sees_that_a_node_is_down_and_that_it_is_back(
    bed: SwarmBed, fault: Callable[[Node], None], mend: Callable[[Node], None]
) -> None:
    node = bed.workers[1]
    for act, state in ((fault, "down"), (mend, "ready")):
        act(node)
        wait_until(lambda state=state: seen(bed.managers[0])[node.name][0] == state, f"the manager sees {state}", 30)


def test_a_killed_engine_leaves_its_containers_and_comes_back(bed: SwarmBed, words: str) -> None:
    node = bed.workers[0]
    container = docker_run(node, "run", "--detach", "--stop-signal=KILL", TEST_IMAGE, "sh", "-c", f"{words}; true")
    node.kill_engine()
    assert running(words)
    assert not answers(node.docker_url)
    with pytest.raises(SwarmError, match="does not run"):
        node.kill_engine()
    node.start_engine()
    assert answers(node.docker_url)
    docker_run(node, "rm", "--force", container)
    assert set() == running(words)


def test_an_engine_that_has_crashed_is_told_with_its_last_words_and_comes_back(bed: SwarmBed) -> None:
    node = bed.workers[0]
    assert node.engine_pid is not None
    os.kill(node.engine_pid, signal.SIGABRT)
    wait_until(lambda: node.engine_pid is None, "it has crashed")
    with pytest.raises(SwarmError, match="engine of n2 has crashed:\nSIGABRT: abort"):
        bed.restore()
    assert answers(node.docker_url)
    bed.restore()


def test_another_process_finds_the_bed_by_its_directory(bed: SwarmBed) -> None:
    found = SwarmBed(bed._directory)
    assert [node.docker_url for node in bed.nodes] == [node.docker_url for node in found.nodes]
    found.workers[0].power_cut()
    assert not bed.workers[0].on
    found.workers[0].boot()
    assert bed.workers[0].on
    with pytest.raises(SwarmError, match="is up already"):
        found.start()


def test_nothing_is_left_after_a_stop_and_beds_do_not_disturb_each_other(
    session_bed: SwarmBed, directory: Path, engine_tree: Path | None, words: str
) -> None:
    """One node is off; the other is cut off, and has no engine but a container."""
    with SwarmBed(directory, nodes=2, tree=engine_tree) as bed:
        runtime = runtime_of(directory)
        first, second = bed.nodes
        docker_run(first, "run", "--detach", ensure_test_image(first.docker_url), "sh", "-c", f"{words}; true")
        assert {"n1", "n2"} == set(seen(first))
        assert running(words)
        assert remains(directory, runtime)
        first.cut_link()
        first.kill_engine()
        second.power_cut()
    assert set() == running(words)
    assert [] == remains(directory, runtime)
    with pytest.raises(SwarmError, match="not up"):
        bed.nodes  # noqa: B018
    assert {"n1", "n2", "n3"} == set(seen(session_bed.managers[0]))


@pytest.mark.slow
def test_images_may_be_kept_for_the_next_swarm_but_not_the_swarm(directory: Path, engine_tree: Path | None) -> None:
    """Images, and what is in the registry."""
    for run in (1, 2):
        with SwarmBed(directory, nodes=1, tree=engine_tree, keep_images=True) as bed:
            url = bed.nodes[0].docker_url
            kept = [
                succeeds(url, "image", "inspect", TEST_IMAGE),
                succeeds(url, "pull", f"{bed.registry}/{TEST_IMAGE}"),
            ]
            assert [run == 2] * 2 == kept
            assert "" == docker_run(bed.nodes[0], "service", "ls", "--quiet")
            assert "" == docker_run(bed.nodes[0], "ps", "--all", "--quiet")
            bed.load_image(ensure_test_image(url))
            docker_run(bed.nodes[0], "service", "create", "--detach", "--no-resolve-image", TEST_IMAGE, "sleep", "600")
            docker_run(bed.nodes[0], "create", TEST_IMAGE, "true")


def owner(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    "watched", [pytest.param(True, id="by its watcher"), pytest.param(False, id="by the next start")]
)
def test_what_a_killed_owner_has_left_is_cleared(directory: Path, watched: bool) -> None:
    process = owner(directory)
    try:
        wait_until(lambda: (directory / "ready").exists() or process.poll() is not None, "the bed is up", 60)
        (directory / "ready").unlink()
        runtime = runtime_of(directory)
        if not watched:
            os.kill(watcher_of(runtime), signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    if not watched:
        assert remains(directory, runtime)
        assert str(runtime) in [record.runtime for record in clear_abandoned()]
    wait_until(lambda: not remains(directory, runtime), "nothing is left", 30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_left_of_a_bed_whose_owner_is_killed_at_any_moment(directory: Path, seed: int) -> None:
    """Most seeds hit the start, which takes two to three seconds."""
    process, end = owner(directory), time.monotonic() + random.Random(seed).random() * 4
    link, runtime = directory / "runtime", None
    while time.monotonic() < end or (runtime is None and process.poll() is None):
        runtime = link.readlink() if runtime is None and link.is_symlink() else runtime
        time.sleep(0.005)
    process.kill()
    process.wait()
    (directory / "ready").unlink(missing_ok=True)
    assert runtime is not None
    wait_until(lambda: not remains(directory, runtime), "nothing is left", 30)


@pytest.mark.slow
def test_seven_nodes_with_three_managers_are_up_in_10_s_and_a_manager_may_die(
    directory: Path, engine_tree: Path | None
) -> None:
    start = time.monotonic()
    with SwarmBed(directory, nodes=7, managers=3, tree=engine_tree) as bed:
        seconds = time.monotonic() - start
        roles = [role for _, role in sorted(seen(bed.managers[0]).values())]
        assert [*["manager"] * 3, *["worker"] * 4] == roles
        bed.managers[0].power_cut()
        other = bed.managers[1]
        wait_until(lambda: succeeds(other.docker_url, "node", "ls", timeout=5), "there is another leader", 60)
        with pytest.raises(SwarmError, match="not every node is ready"):
            bed.wait_until_ready(1)
        bed.restore()
    assert 10 > seconds
