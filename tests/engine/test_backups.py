"""Backups and restores on a real engine, by services that are killed meanwhile, and by one on another machine."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager.maintenance.backup_store import BackupStore
from container_manager.maintenance.journal import JOURNAL_DIRECTORY, Journal
from dev.engine import PrivateEngine
from tests.support.botctl_process import botctl
from tests.support.bots import Bots
from tests.support.maintained_service import MaintainedService, made_roots, service_of_root
from tests.support.provisioning_calls import put_secrets
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bots of this module are root's")

# Counts in its state, so that it shows whether it is frozen.
COUNTING = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/home/node/.openclaw/count; sleep 0.02; done")
# Takes its whole grace period to stop.
STUBBORN = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
# So many that the copy takes a while.
FILES = 2_000
RUNNING = manager_pb.CONTAINER_STATE_RUNNING


def is_paused(engine: docker.DockerClient, bot_id: str) -> bool:
    """Whether the engine says that the bot is paused."""
    return bool(engine.api.inspect_container(f"botmaker-{bot_id}")["State"]["Paused"])


def in_background(call: Callable[..., Any], *arguments: str) -> threading.Thread:
    """A call whose service is killed."""

    def work() -> None:
        with suppress(grpc.RpcError):
            call(*arguments)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.fixture
def secrets_root(maintained_roots: Path) -> Path:
    """Of its own: a service continues what a killed one has left only if it is alone with its root."""
    path = maintained_roots / "secrets"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def other_machine(
    private_engine: PrivateEngine, session_dir: Path, tmp_path: Path, test_image: str
) -> Iterator[MaintainedService]:
    """A service that has an engine and all roots of its own."""
    roots = made_roots(session_dir / f"{tmp_path.name}-other")
    (roots / "secrets").mkdir(0o755)
    service = service_of_root(private_engine.url, roots, roots / "secrets", test_image)
    yield service
    service.close()


def test_a_service_killed_amid_backup_and_restore_finishes_both(
    maintained: MaintainedService,
    bots: Bots,
    maintained_roots: Path,
    engine: docker.DockerClient,
    build_image: BuildImage,
) -> None:
    image = build_image("LABEL botmaker.derived-state=made/anew")
    bot_id = bots.new()
    health = manager_pb.HealthCheck(command=["true"], interval={"seconds": 1})
    maintained.calls.run(bot_id, *COUNTING, image=image, health_check=health)
    state = maintained_roots / "states" / bot_id
    wait_until((state / "count").exists, "the bot runs")
    (state / "many").mkdir()
    for number in range(FILES):
        (state / "many" / str(number)).write_text("old")
    (state / "made" / "anew").mkdir(parents=True)

    call = in_background(maintained.create_backup, bot_id, "backup")
    wait_until(lambda: is_paused(engine, bot_id), "the bot is paused")
    maintained.kill()
    call.join()
    assert is_paused(engine, bot_id), "the copy was still being made"
    maintained.start()
    backup = maintained.create_backup(bot_id, "backup")
    assert not is_paused(engine, bot_id)
    count = (state / "count").read_text()
    wait_until(lambda: (state / "count").read_text() not in ("", count), "the bot goes on")
    manifest = BackupStore(maintained_roots / "backups").manifest(backup.backup_id)
    assert {"count", "many", "made"} == {each.path for each in manifest.entries if not each.path.startswith("many/")}
    assert FILES + 3 == len(manifest.entries)
    assert manifest.config is not None
    assert (image, COUNTING) == (manifest.config.image, manifest.config.command)
    assert [backup] == list(maintained.maintainer.ListBackups(pb.ListBackupsRequest()).backups)

    (state / "many" / "1").write_text("new")
    for event in maintained.restore(bot_id, backup.backup_id, "restore"):
        if event.phase == pb.RESTORE_PHASE_WAITING_READY:
            break
    maintained.kill()
    maintained.start()
    assert pb.RESTORE_PHASE_COMMITTED == [*maintained.restore(bot_id, backup.backup_id, "restore")][-1].phase
    status = maintained.calls.status(bot_id)
    assert status is not None
    assert (RUNNING, manager_pb.HEALTH_STATUS_HEALTHY) == (status.state, status.health)
    assert "old" == (state / "many" / "1").read_text()
    assert [] == list((maintained_roots / "states" / ".maintenance").iterdir())

    maintained.calls.remove(bot_id, grace=0)
    (state / "many" / "1").write_text("new")
    last = [*maintained.restore(bot_id, backup.backup_id, "anew")][-1]
    assert pb.RESTORE_PHASE_COMMITTED == last.phase
    assert "old" == (state / "many" / "1").read_text()
    again = maintained.calls.status(bot_id)
    assert again is not None
    assert (RUNNING, image) == (again.state, again.image)
    maintained.calls.remove(bot_id, grace=0)


def test_a_restore_whose_service_is_killed_leaves_the_container_that_another_service_makes_meanwhile(
    maintained: MaintainedService, bots: Bots, secrets_root: Path, engine: docker.DockerClient
) -> None:
    """The other one has a journal of its own, and so does not know of the restore."""
    bot_id, journal = bots.new(), Journal(secrets_root)
    maintained.calls.run(bot_id, *STUBBORN)
    backup = maintained.create_backup(bot_id, "backup")
    for event in maintained.restore(bot_id, backup.backup_id, "restore"):
        if event.phase == pb.RESTORE_PHASE_STOPPING:
            break
    maintained.kill()
    assert ["stopping"] == [record.phase for record in journal.unfinished()]
    hidden = (secrets_root / JOURNAL_DIRECTORY).rename(secrets_root / ".hidden")
    maintained.start()
    maintained.calls.remove(bot_id, grace=0)
    maintained.calls.run(bot_id, *STUBBORN)
    maintained.kill()
    before = engine.api.inspect_container(f"botmaker-{bot_id}")
    shutil.rmtree(secrets_root / JOURNAL_DIRECTORY)
    hidden.rename(secrets_root / JOURNAL_DIRECTORY)
    maintained.start()
    wait_until(lambda: not journal.unfinished(), "the restore ends")
    after = engine.api.inspect_container(f"botmaker-{bot_id}")
    assert [before["Id"], before["State"]] == [after["Id"], after["State"]]
    maintained.calls.remove(bot_id, grace=0)


def test_a_bot_that_crashes_again_and_again_is_backed_up(
    maintained: MaintainedService, bots: Bots, engine: docker.DockerClient
) -> None:
    """Also between two runs, when the engine refuses to pause it."""
    bot_id = bots.new()
    maintained.calls.run(bot_id, "sh", "-c", "date >>/home/node/.openclaw/runs; exit 3")

    def wait_seconds() -> float:
        container = engine.api.inspect_container(f"botmaker-{bot_id}")
        # The engine waits twice as long after each run, from 0.1 s on.
        return 0.1 * 2 ** container["RestartCount"] if container["State"]["Restarting"] else 0

    wait_until(lambda: wait_seconds() > 3, "it waits for its next run", 30)
    assert maintained.create_backup(bot_id, "crash-loop").size_bytes
    assert engine.api.inspect_container(f"botmaker-{bot_id}")["State"]["Running"], "it goes on crashing"
    maintained.calls.remove(bot_id, grace=0)


def test_conformance_20_a_backup_brings_a_bot_back_on_another_machine(
    maintained: MaintainedService,
    other_machine: MaintainedService,
    bots: Bots,
    maintained_roots: Path,
    private_engine: PrivateEngine,
) -> None:
    """Where there is nothing of it but the archive and its secrets."""
    bot_id = bots.new()
    health = manager_pb.HealthCheck(command=["true"], interval={"seconds": 1})
    script = "cat /home/node/.openclaw/data /run/secrets/GATEWAY_TOKEN; exec sleep 100000"
    maintained.calls.run(bot_id, "sh", "-c", script, hostname="marvin", health_check=health)
    (maintained_roots / "states" / bot_id / "data").write_text("the state, ")
    backup = maintained.create_backup(bot_id, bot_id)
    maintained.calls.remove(bot_id, grace=0)

    other_roots = maintained_roots.with_name(f"{maintained_roots.name}-other")
    shutil.copy(maintained_roots / "backups" / f"{backup.backup_id}.tar.gz", other_roots / "backups")
    put_secrets(other_machine.provisioner, bot_id, GATEWAY_TOKEN=b"another token\n")
    restored = botctl(other_machine.address, "backup", "restore", bot_id, backup.backup_id)
    assert (0, f"{bot_id}  restored\n") == (restored.returncode, restored.stdout), restored.stderr
    status = other_machine.calls.status(bot_id)
    assert status is not None
    assert (RUNNING, manager_pb.HEALTH_STATUS_HEALTHY) == (status.state, status.health)
    assert ("marvin", maintained.calls.status(bot_id)) == (status.hostname, None)
    engine = docker.DockerClient(base_url=private_engine.url, version="auto")
    assert b"the state, another token\n" == engine.containers.get(status.container_id).logs()
    engine.close()
    other_machine.calls.remove(bot_id, grace=0)
