"""Bots' states on a swarm: shared or on one node, upgraded, backed up, and moved to one machine and back."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import docker
import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager.config import BackendConfig, SwarmConfig
from dev import docker_command
from dev.swarm import SwarmBed
from tests.support.calls import FOREVER, fails_with
from tests.support.maintained_service import MaintainedService
from tests.support.provisioning_calls import put_secrets
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_service import KeptService, kept_service, root_of
from tests.support.waiting import wait_until

RUNNING = manager_pb.CONTAINER_STATE_RUNNING
STOPPING, BACKING_UP = pb.UPGRADE_PHASE_STOPPING, pb.UPGRADE_PHASE_BACKING_UP
REPLACING, WAITING_READY = pb.UPGRADE_PHASE_REPLACING, pb.UPGRADE_PHASE_WAITING_READY
# Each run adds a line to the state.
ADDING = ("sh", "-c", "echo run >>/home/node/.openclaw/runs; exec sleep 100000")
HEALTH = manager_pb.HealthCheck(command=["test", "-s", "/home/node/.openclaw/runs"], interval={"seconds": 1})


@pytest.fixture
def shared(
    session_bed: SwarmBed,
    swarm_service: BackendConfig,
    swarm_config: SwarmConfig,
    session_dir: Path,
    tmp_path: Path,
) -> Iterator[KeptService]:
    """A service on the swarm, with states on storage that all nodes share."""
    state_root = root_of(session_bed.shared / "states")
    service = replace(swarm_service, secrets_root=root_of(tmp_path / "journal"), state_root=state_root)
    backups = root_of(tmp_path / "swarm-backups").path
    with kept_service(
        service, replace(swarm_config, placement="floating"), f"unix://{session_dir}/s/s.sock", backups
    ) as kept:
        yield kept


def test_conformance_20_a_bot_moves_from_one_machine_to_a_swarm_and_back_with_its_state(
    session_bed: SwarmBed, alone: KeptService, shared: KeptService, bots: SwarmBots, tmp_path: Path
) -> None:
    bot_id = bots.bare()
    secrets = {"GATEWAY_TOKEN": b"token"}
    put_secrets(alone.provisioner, bot_id, **secrets)
    alone.calls.run(bot_id, *ADDING, health_check=HEALTH, hostname="ada", labels={"team": "blue"})
    here, there = tmp_path / "states" / bot_id / "runs", session_bed.shared / "states" / bot_id / "runs"
    wait_until(here.exists, "the bot has written its state")
    before = alone.calls.status(bot_id)
    backup_id = alone.backup(bot_id)
    alone.calls.remove(bot_id, grace=0)
    try:
        alone.move_backup(backup_id, shared)
        put_secrets(shared.provisioner, bot_id, **secrets)
        shared.restore(bot_id, backup_id)
        on_swarm = shared.calls.status(bot_id)
        assert before is not None
        assert on_swarm is not None
        assert (RUNNING, "ada", {"team": "blue"}, before.image) == (
            on_swarm.state,
            on_swarm.hostname,
            dict(on_swarm.labels),
            on_swarm.image,
        )
        assert on_swarm.node in {node.name for node in session_bed.nodes}
        wait_until(lambda: there.read_text() == "run\nrun\n", "the run before the backup, and one on the swarm")

        backup_id = shared.backup(bot_id)
        shared.calls.remove(bot_id, grace=0)
        shared.provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))
        shared.move_backup(backup_id, alone)
        # The machine is a node too, which removes the container of a bot that is gone a moment later.
        machine = session_bed.nodes[-1].docker_url
        ours = ("ps", "--all", "--quiet", "--filter", f"label=botmaker.bot-id={bot_id}")
        wait_until(lambda: not docker_command.run(machine, *ours), "the node has removed the bot's container")
        alone.restore(bot_id, backup_id)
        back = alone.calls.status(bot_id)
        assert back is not None
        assert (RUNNING, "ada", before.image_id) == (back.state, back.hostname, back.image_id)
        wait_until(lambda: here.read_text() == "run\nrun\nrun\n", "those before the backup on the swarm, and one more")
    finally:
        alone.calls.remove(bot_id, grace=0)


@pytest.mark.slow
def test_conformance_19_an_upgrade_that_fails_on_a_swarm_leaves_the_image_and_the_state_as_they_were(
    session_bed: SwarmBed, shared: KeptService, bots: SwarmBots, swarm_image: str
) -> None:
    """And one that does not has the new image, and the state."""
    first = session_bed.nodes[0]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    docker_command.run(first.docker_url, "import", "-", "botmaker-test/empty:1", stdin=archive.getvalue())
    empty = session_bed.load_image("botmaker-test/empty:1")
    docker_command.run(first.docker_url, "tag", swarm_image, "botmaker-test/busybox:2")
    second = session_bed.load_image("botmaker-test/busybox:2")

    bot_id = bots.bare()
    put_secrets(shared.provisioner, bot_id, A=b"a")
    shared.calls.run(bot_id, *ADDING, health_check=HEALTH)
    state = session_bed.shared / "states" / bot_id / "runs"
    wait_until(state.exists, "the bot has written its state")
    before = shared.calls.status(bot_id)
    with fails_with("FAILED_PRECONDITION", "UPGRADE_ROLLED_BACK"):
        shared.upgrade(bot_id, empty, grace_period={"seconds": 0})
    after = shared.calls.status(bot_id)
    assert before is not None
    assert after is not None
    assert (RUNNING, before.image, before.image_id) == (after.state, after.image, after.image_id)
    assert "run\nrun\n" == state.read_text()
    with fails_with("FAILED_PRECONDITION", "IMAGE_NOT_FOUND"):
        shared.upgrade(bot_id, f"{session_bed.registry}/botmaker-test/busybox:none")
    shared.upgrade(bot_id, second, grace_period={"seconds": 0})
    upgraded = shared.calls.status(bot_id)
    assert upgraded is not None
    assert (RUNNING, second) == (upgraded.state, upgraded.image)
    assert "run\nrun\nrun\n" == state.read_text()


@pytest.mark.slow
def test_conformance_19_a_service_killed_in_any_phase_of_an_upgrade_on_a_swarm_finishes_it(
    session_bed: SwarmBed, bots: SwarmBots, swarm_image: str, session_dir: Path, tmp_path: Path
) -> None:
    first = session_bed.nodes[0]
    docker_command.run(first.docker_url, "tag", swarm_image, "botmaker-test/busybox:2")
    images = [session_bed.load_image("botmaker-test/busybox:2"), swarm_image]
    roots = [root_of(path).path for path in (tmp_path / "j", session_bed.shared / "killed", tmp_path / "b")]
    address = f"unix://{session_dir}/killed.sock"
    arguments = ["--listen", address, "--backend", "swarm", "--docker-host", first.docker_url, "--bot-user", "0:0"]
    for option, value in zip(("--secrets-root", "--state-root", "--backup-root"), map(str, roots), strict=True):
        arguments += [option, value]
    arguments += ["--placement", "floating", "--allow-weaker", "no-new-privileges", "--allow-weaker", "grace-period"]
    service = MaintainedService([*arguments, "--default-image", swarm_image], tmp_path / "log", address)
    try:
        bot_id = bots.new()
        service.calls.run(bot_id, *ADDING, health_check=HEALTH)
        state = roots[1] / bot_id / "runs"
        wait_until(state.exists, "the bot has written its state")
        for count, phase in enumerate((STOPPING, BACKING_UP, REPLACING, WAITING_READY), 2):
            image, request_id = images[count % 2], f"upgrade-{phase}"
            with suppress(grpc.RpcError):
                for message in service.upgrade(bot_id, image, request_id):
                    if message.phase == phase:
                        break
            service.kill()
            service.start()
            *_, last = service.upgrade(bot_id, image, request_id)
            assert pb.UPGRADE_PHASE_COMMITTED == last.phase
            status = service.calls.status(bot_id)
            assert status is not None
            assert (RUNNING, image) == (status.state, status.image)
            assert "run\n" * count == state.read_text()
            assert 1 == len(bots.services())
            assert 2 == len(bots.secrets()), "the bot's set and its token"
        service.calls.remove(bot_id)
    finally:
        service.close()


def test_pinned_bots_that_are_created_at_the_same_time_are_spread_over_the_workers(
    session_bed: SwarmBed, pinned: KeptService, bots: SwarmBots
) -> None:
    bot_ids = [bots.new() for _ in range(8)]
    with ThreadPoolExecutor(len(bot_ids)) as threads:
        list(threads.map(lambda bot_id: pinned.calls.create(bot_id, *FOREVER), bot_ids))
    nodes = [each.node for each in pinned.calls.listed(bot_ids)]
    assert sorted(node.name for node in session_bed.nodes[1:] * 4) == sorted(nodes)


def test_a_pinned_bot_keeps_its_state_through_upgrade_and_creation_and_what_needs_copies_is_refused(
    session_bed: SwarmBed, pinned: KeptService, unreached: KeptService, bots: SwarmBots, swarm_image: str
) -> None:
    bot_id = bots.bare()
    put_secrets(pinned.provisioner, bot_id, A=b"a")
    pinned.calls.run(bot_id, *ADDING, health_check=HEALTH)
    first = pinned.calls.status(bot_id)
    assert first is not None
    node = next(node for node in session_bed.nodes if node.name == first.node)
    client = docker.APIClient(node.docker_url, version="auto")
    try:
        (volume,) = client.volumes(filters={"label": f"botmaker.bot-id={bot_id}"})["Volumes"]
        runs = Path(volume["Mountpoint"]) / "runs"
        for refused in (
            lambda: unreached.backup(bot_id),
            lambda: unreached.upgrade(bot_id, swarm_image),
            lambda: pinned.provisioner.PutFiles(provisioner_pb.PutFilesRequest(bot_id=bot_id, files={"a": b""})),
        ):
            with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND"):
                refused()
        digest = f"{swarm_image}@{first.image_id}"
        unreached.upgrade(bot_id, digest, skip_backup=True)
        pinned.calls.remove(bot_id, grace=0)
        pinned.calls.run(bot_id, *ADDING, health_check=HEALTH)
        again = pinned.calls.status(bot_id)
        assert again is not None
        assert first.node == again.node
        assert "run\nrun\nrun\n" == runs.read_text()
        pinned.calls.remove(bot_id, grace=0)
        pinned.provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))
        assert not client.volumes(filters={"name": volume["Name"]})["Volumes"]
        labels = docker_command.run(
            session_bed.nodes[0].docker_url, "node", "inspect", node.name, "--format", "{{json .Spec.Labels}}"
        )
        assert bot_id not in labels.decode()
        pinned.provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))
    finally:
        client.close()
