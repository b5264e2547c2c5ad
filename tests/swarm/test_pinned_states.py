# ruff: noqa: PLR0917 - fixtures
"""States on single nodes: backed up, restored and upgraded with a copy through the nodes' own engines, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager.backends.swarm.state_volumes import LABEL_STATE_OF
from dev import docker_command
from dev.swarm import Node, SwarmBed
from tests.support.calls import error_info, fails_with
from tests.support.maintained_service import MaintainedService
from tests.support.provisioning_calls import put_secrets
from tests.support.start_failure_contract import BuildImage
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_service import KeptService, root_of
from tests.support.waiting import wait_until
from tests.unit.test_tree_copy import made_state, picture
from tests.unit.test_tree_stream import in_whole_seconds

RUNNING = manager_pb.CONTAINER_STATE_RUNNING
STOPPING, BACKING_UP = pb.UPGRADE_PHASE_STOPPING, pb.UPGRADE_PHASE_BACKING_UP
REPLACING, WAITING_READY = pb.UPGRADE_PHASE_REPLACING, pb.UPGRADE_PHASE_WAITING_READY
ROLLING_BACK = pb.UPGRADE_PHASE_ROLLING_BACK
SLEEP = ("sleep", "100000")
# In an image that is broken, the bot damages its state and crashes.
BREAKS = (
    "sh",
    "-c",
    "cd /home/node/.openclaw; [ ! -e /broken ] || { rm -r a; echo new >new; exit 1; }; exec sleep 100000",
)
HEALTH = manager_pb.HealthCheck(command=["true"], interval={"seconds": 1})


@dataclass(frozen=True)
class Volumes:
    """The volume of a bot on whichever node, as the nodes' own engines have it."""

    bed: SwarmBed
    bot_id: str

    def find(self) -> tuple[Node, Path] | None:
        """The node, and the directory on it; ``None``: there is none."""
        for node in self.bed.nodes:
            client = docker.APIClient(node.docker_url, version="auto")
            try:
                found = client.volumes(filters={"label": f"botmaker.bot-id={self.bot_id}"})["Volumes"]
            finally:
                client.close()
            if found:
                return node, Path(found[0]["Mountpoint"])
        return None

    @property
    def path(self) -> Path:
        found = self.find()
        assert found is not None
        return found[1]

    @property
    def node(self) -> Node:
        found = self.find()
        assert found is not None
        return found[0]

    def containers(self) -> str:
        """All that have it, on its node."""
        volume = f"volume=botmaker-{self.bot_id}"
        return docker_command.run(self.node.docker_url, "ps", "--all", "--quiet", "--filter", volume).decode()


@pytest.fixture
def volumes(session_bed: SwarmBed, bots: SwarmBots) -> Iterator[Volumes]:
    made = Volumes(session_bed, bots.bare())
    yield made
    bots.remove_all()
    if (found := made.find()) is not None:
        node, _ = found
        wait_until(lambda: not made.containers(), "the node has removed the bot's containers")
        docker_command.run(node.docker_url, "volume", "rm", f"botmaker-{made.bot_id}")


def filled(volumes: Volumes) -> dict[str, tuple[object, ...]]:
    """Fill the bot's volume, and tell all of it."""
    made_state(volumes.path)
    (volumes.path / "a" / "out").symlink_to("../../../../../etc/shadow")
    (volumes.path / "empty").mkdir(0o711)
    in_whole_seconds(volumes.path)
    # The bot is root without its rights: it has to own what it changes.
    os.chown(volumes.path, 0, 1235)
    volumes.path.chmod(0o750)
    return picture(volumes.path)


def delete_state(service: KeptService, bot_id: str) -> None:
    service.provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))


def test_a_backup_of_a_pinned_bot_brings_its_state_back_over_later_changes_and_where_nothing_is_left(
    pinned: KeptService, volumes: Volumes, session_bed: SwarmBed
) -> None:
    bot_id = volumes.bot_id
    put_secrets(pinned.provisioner, bot_id, A=b"a")
    pinned.calls.run(bot_id, *SLEEP, health_check=HEALTH, labels={"team": "blue"})
    before = filled(volumes)
    backup_id = pinned.backup(bot_id)
    assert before == picture(volumes.path), "a backup changes nothing"
    # A restore gives everything to the bots' user; what leads out of the state is in no backup.
    kept = {path: (1000, 1001, *of[2:]) for path, of in before.items() if path not in ("a/out", "a/link", ".")}

    (volumes.path / "a" / "b" / "file").write_text("changed")
    (volumes.path / "later").mkdir()
    (volumes.path / "empty").rmdir()
    pinned.restore(bot_id, backup_id)
    status = pinned.calls.status(bot_id)
    assert status is not None
    assert (RUNNING, volumes.node.name) == (status.state, status.node)
    assert kept == {path: of for path, of in picture(volumes.path).items() if path != "."}
    assert (1000, 1001, "0o40700") == picture(volumes.path)["."][:3]

    pinned.calls.remove(bot_id, grace=0)
    delete_state(pinned, bot_id)
    assert volumes.find() is None
    pinned.restore(bot_id, backup_id)
    status = pinned.calls.status(bot_id)
    assert status is not None
    assert (RUNNING, {"team": "blue"}, volumes.node.name) == (status.state, dict(status.labels), status.node)
    assert kept == {path: of for path, of in picture(volumes.path).items() if path != "."}
    labels = docker_command.run(
        session_bed.nodes[0].docker_url, "node", "inspect", status.node, "--format", "{{json .Spec.Labels}}"
    )
    assert bot_id in labels.decode()
    pinned.calls.remove(bot_id, grace=0)
    delete_state(pinned, bot_id)
    assert volumes.find() is None


def test_a_bot_moves_from_one_machine_to_a_node_of_a_swarm_and_back(
    pinned: KeptService, alone: KeptService, volumes: Volumes, tmp_path: Path
) -> None:
    bot_id = volumes.bot_id
    put_secrets(alone.provisioner, bot_id, A=b"a")
    alone.calls.run(bot_id, *SLEEP, health_check=HEALTH)
    here = tmp_path / "states" / bot_id / "x"
    here.write_text("one")
    backup_id = alone.backup(bot_id)
    alone.calls.remove(bot_id, grace=0)
    try:
        alone.move_backup(backup_id, pinned)
        put_secrets(pinned.provisioner, bot_id, A=b"a")
        pinned.restore(bot_id, backup_id)
        assert "one" == (volumes.path / "x").read_text()
        (volumes.path / "x").write_text("two")
        backup_id = pinned.backup(bot_id)
        pinned.calls.remove(bot_id, grace=0)
        delete_state(pinned, bot_id)
        pinned.move_backup(backup_id, alone)
        alone.restore(bot_id, backup_id)
        assert "two" == here.read_text()
    finally:
        alone.calls.remove(bot_id, grace=0)


def test_an_upgrade_that_fails_leaves_a_pinned_bots_image_and_its_state_exactly_as_they_were(
    pinned: KeptService, volumes: Volumes, build_image: BuildImage, tmp_path: Path
) -> None:
    """And one that does not has made a backup."""
    bot_id = volumes.bot_id
    put_secrets(pinned.provisioner, bot_id, A=b"a")
    pinned.calls.run(bot_id, *BREAKS, health_check=HEALTH)
    node, before, status = volumes.node, filled(volumes), pinned.calls.status(bot_id)
    assert status is not None
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        broken = build_image("RUN touch /broken")
        pinned.upgrade(bot_id, broken, ready_timeout={"seconds": 12}, grace_period={"seconds": 0})
    after = pinned.calls.status(bot_id)
    assert after is not None
    assert (RUNNING, status.image, status.image_id) == (after.state, after.image, after.image_id)
    assert (node, before) == (volumes.node, picture(volumes.path))
    (failed,) = (tmp_path / "p-copies" / ".maintenance" / bot_id).iterdir()
    assert ("failed", ["empty", "new"]) == (failed.name, sorted(path.name for path in failed.iterdir()))

    *_, last = pinned.upgrade(bot_id, build_image("RUN touch /whole"), grace_period={"seconds": 0})
    assert pb.UPGRADE_PHASE_COMMITTED == last.phase
    assert (pinned.backups / f"{last.backup_id}.tar.gz").exists()
    assert before == picture(volumes.path)
    assert ["failed"] == [path.name for path in failed.parent.iterdir()]


def test_what_needs_the_state_of_a_bot_on_a_node_that_is_not_named_is_refused_and_changes_nothing(
    pinned: KeptService, unreached: KeptService, volumes: Volumes, swarm_image: str
) -> None:
    bot_id = volumes.bot_id
    put_secrets(pinned.provisioner, bot_id, A=b"a")
    pinned.calls.run(bot_id, *SLEEP)
    backup_id = pinned.backup(bot_id)
    before, state, node = pinned.calls.status(bot_id), filled(volumes), volumes.node.name
    digest = f"{swarm_image}@{before.image_id if before else ''}"

    def refused() -> Iterator[None]:
        for call in (
            lambda: unreached.backup(bot_id),
            lambda: unreached.restore(bot_id, backup_id),
            lambda: unreached.upgrade(bot_id, digest),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            problem = error_info(caught.value)
            assert ("NOT_SUPPORTED_BY_BACKEND", node) == (problem.reason, problem.metadata["node"])
            assert f"--node-engine {node}=URL" in problem.message
            yield

    for _ in refused():
        assert (before, state) == (pinned.calls.status(bot_id), picture(volumes.path))
    # A bot that has been removed has its state there, too.
    pinned.calls.remove(bot_id, grace=0)
    with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND"):
        unreached.restore(bot_id, backup_id)
    assert pinned.calls.status(bot_id) is None
    assert state == picture(volumes.path)


def test_a_state_is_backed_up_and_deleted_although_a_killed_service_has_left_a_container_that_has_it(
    pinned: KeptService, volumes: Volumes, swarm_image: str
) -> None:
    bot_id = volumes.bot_id
    put_secrets(pinned.provisioner, bot_id, A=b"a")
    pinned.calls.run(bot_id, *SLEEP)
    name = f"botmaker-{bot_id}"
    left = ("create", f"--name={name}-state", f"--label={LABEL_STATE_OF}={bot_id}", f"--volume={name}:/state")

    @contextmanager
    def left_container() -> Iterator[None]:
        container_id = docker_command.run(volumes.node.docker_url, *left, swarm_image, "true").decode().strip()
        yield
        if volumes.find() is not None:
            assert container_id[:12] not in volumes.containers()

    with left_container():
        pinned.backup(bot_id)
    pinned.calls.remove(bot_id, grace=0)
    with left_container():
        delete_state(pinned, bot_id)
    assert volumes.find() is None


@pytest.mark.slow
def test_a_service_killed_in_any_phase_of_an_upgrade_or_its_rollback_finishes_it_for_a_pinned_bot(
    session_bed: SwarmBed,
    volumes: Volumes,
    swarm_image: str,
    build_image: BuildImage,
    session_dir: Path,
    tmp_path: Path,
) -> None:
    images = [build_image("RUN touch /whole"), swarm_image]
    broken = build_image("RUN touch /broken")
    address = f"unix://{session_dir}/killed-pinned.sock"
    arguments = ["--listen", address, "--backend", "swarm", "--docker-host", session_bed.nodes[0].docker_url]
    for option, name in (("--secrets-root", "j"), ("--state-root", "c"), ("--backup-root", "b")):
        arguments += [option, str(root_of(tmp_path / name).path)]
    for node in session_bed.nodes:
        arguments += ["--node-engine", f"{node.name}={node.docker_url}"]
    arguments += ["--allow-weaker", "no-new-privileges", "--default-image", swarm_image, "--bot-user", "0:0"]
    service = MaintainedService(arguments, tmp_path / "log", address)
    bot_id = volumes.bot_id
    try:
        put_secrets(service.provisioner, bot_id, A=b"a")
        service.calls.run(bot_id, *BREAKS, health_check=HEALTH)
        state = filled(volumes)

        def killed(image: str, phase: int) -> list[pb.UpgradeContainerResponse]:
            """Upgrade, kill the service when it enters the phase, start it again, and wait for the outcome."""
            request_id, fields = f"{image}-{phase}", {"ready_timeout": {"seconds": 12}, "grace_period": {"seconds": 0}}
            with suppress(grpc.RpcError):
                for message in service.upgrade(bot_id, image, request_id, **fields):
                    if message.phase == phase:
                        break
            service.kill()
            service.start()
            return list(service.upgrade(bot_id, image, request_id, **fields))

        for count, phase in enumerate((STOPPING, BACKING_UP, REPLACING, WAITING_READY)):
            assert pb.UPGRADE_PHASE_COMMITTED == killed(images[count % 2], phase)[-1].phase
            status = service.calls.status(bot_id)
            assert status is not None
            assert (RUNNING, images[count % 2]) == (status.state, status.image)
            assert state == picture(volumes.path)
        before = service.calls.status(bot_id)
        with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
            killed(broken, ROLLING_BACK)
        after = service.calls.status(bot_id)
        assert before is not None
        assert after is not None
        assert (RUNNING, before.image) == (after.state, after.image)
        assert state == picture(volumes.path)
        service.calls.remove(bot_id, grace=0)
    finally:
        service.close()
