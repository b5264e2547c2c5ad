"""Done when: a fleet of three real OpenClaw bots is upgraded, one of them to an image that never gets ready.

And a backup of one that runs brings it back.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_maintainer_pb2 as pb
from botmaker.container.v1 import container_manager_pb2 as manager_pb
from container_manager_client import error_info
from dev.images import OLDER_OPENCLAW, ensure_bot_image
from tests.support.bots import Bots
from tests.support.engine_proxy import EngineProxy
from tests.support.maintained_service import MaintainedService
from tests.support.provisioning_calls import put_secrets
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to the bots' user"),
]

# The gateway starts and migrates the state. It takes 30 s alone, and longer on a busy machine.
MIGRATION_SECONDS, PATIENCE_SECONDS = 180, 600
NEVER_READY = """USER root
RUN echo 'console.log("the test says no"); process.exit(1)' >/opt/entrypoint/ready.mjs
USER node"""
DATABASE = "state/openclaw.sqlite"
State = dict[str, tuple[int, str]]


class StatesAtStarts(EngineProxy):
    """Notes what each bot's state is when its container is about to be started."""

    def __init__(self, engine: docker.DockerClient, engine_url: str, path: Path, states: Path) -> None:
        super().__init__(engine_url, path)
        self._docker = engine
        self._states = states
        self.seen_states: dict[str, list[State]] = {}

    def _passes(self, line: str) -> bool | None:
        if started := re.search("/containers/([0-9a-f]{64})/start", line):
            bot_id = self._docker.containers.get(started[1]).labels["botmaker.bot-id"]
            self.seen_states.setdefault(bot_id, []).append(state_of(self._states / bot_id))
        return super()._passes(line)


def state_of(directory: Path) -> State:
    """Every file, directory and link below: its mode, and what is in it."""
    return {str(path.relative_to(directory)): (path.lstat().st_mode, _content(path)) for path in directory.rglob("*")}


def _content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def schema(state: Path) -> int:
    """The version of the state's database, of a bot that does not run or of a running one.

    In a process of its own: whatever else this one reads of the file ends SQLite's locks on it (fcntl(2)).
    """
    script = (
        "import sqlite3, sys; database = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); "
        "print(database.execute('PRAGMA user_version').fetchone()[0])"
    )
    return int(subprocess.check_output([sys.executable, "-c", script, str(state / DATABASE)]))


def integrity_checks(state: Path) -> dict[str, str]:
    """What SQLite finds in each database of a state that no bot writes to."""
    found = {}
    for path in state.rglob("*.sqlite"):
        with closing(sqlite3.connect(path)) as database:
            found[str(path.relative_to(state))] = str(database.execute("PRAGMA integrity_check").fetchone()[0])
    return found


@pytest.fixture
def never_ready_image(engine: docker.DockerClient, openclaw_image: str, tmp_path: Path) -> Iterator[str]:
    """The present version, of which the bot image's own program says that it is not ready."""
    (tmp_path / "Dockerfile").write_text(f"FROM {openclaw_image}\n{NEVER_READY}\n")
    tag = "botmaker-test/never-ready:1"
    engine.images.build(path=str(tmp_path), tag=tag)
    yield tag
    engine.images.remove(tag, force=True)


@pytest.fixture
def proxy(
    engine: docker.DockerClient, engine_url: str, session_dir: Path, maintained_roots: Path
) -> Iterator[StatesAtStarts]:
    with StatesAtStarts(engine, engine_url, session_dir / "states.sock", maintained_roots / "states") as proxy:
        yield proxy


@pytest.fixture
def service(proxy: StatesAtStarts, maintained_roots: Path, secrets_root: Path) -> Iterator[MaintainedService]:
    address = f"unix://{maintained_roots}/s.sock"
    arguments = ["--listen", address, "--docker-host", proxy.url, "--secrets-root", str(secrets_root)]
    arguments += ["--state-root", f"{maintained_roots}/states", "--backup-root", f"{maintained_roots}/backups"]
    service = MaintainedService(arguments, maintained_roots / "log", address)
    yield service
    service.close()


def upgraded(service: MaintainedService, bot_id: str, image: str, ready_seconds: int) -> tuple[list[int], str]:
    """The phases of an upgrade, and its error."""
    phases: list[int] = []
    request = pb.UpgradeContainerRequest(
        bot_id=bot_id, image=image, request_id=f"upgrade-{bot_id}", ready_timeout=Duration(seconds=ready_seconds)
    )
    try:
        for message in service.maintainer.UpgradeContainer(request, timeout=PATIENCE_SECONDS * 2):
            if message.phase not in phases[-1:]:
                phases.append(message.phase)
    except grpc.RpcError as exc:
        info = error_info(exc)
        return phases, f"{info.reason}: {info.message}"
    return phases, ""


def is_ready(service: MaintainedService, bot_id: str) -> bool:
    """Whether the bot says that it is."""
    request = pb.RunActionRequest(bot_id=bot_id, action="ready")
    return list(service.maintainer.RunAction(request, timeout=180))[-1].end.exit_code == 0


def ready_bot(service: MaintainedService, bots: Bots, image: str) -> str:
    """A new bot that says that it is ready."""
    bot_id = bots.bare()
    put_secrets(service.provisioner, bot_id, GATEWAY_TOKEN=b"t" * 48, OPENAI_API_KEY=b"sk-none")
    service.calls.run(bot_id, image=image, ai_provider="openai", ai_model="gpt-5.4")
    wait_until(lambda: is_ready(service, bot_id), "the bot is ready", PATIENCE_SECONDS)
    return bot_id


def test_a_fleet_of_three_real_bots_is_upgraded_and_one_that_never_gets_ready_is_back_with_its_state_byte_for_byte(  # noqa: PLR0917
    service: MaintainedService,
    proxy: StatesAtStarts,
    bots: Bots,
    engine_url: str,
    openclaw_image: str,
    never_ready_image: str,
    maintained_roots: Path,
) -> None:
    older_image = ensure_bot_image(engine_url, OLDER_OPENCLAW)
    states = maintained_roots / "states"
    fleet = [ready_bot(service, bots, older_image) for _ in range(3)]
    *good, bad = fleet
    before = {bot_id: schema(states / bot_id) for bot_id in fleet}

    for bot_id in good:
        phases, error = upgraded(service, bot_id, openclaw_image, PATIENCE_SECONDS)
        assert (pb.UPGRADE_PHASE_COMMITTED, "") == (phases[-1], error)
        assert schema(states / bot_id) > before[bot_id]
        assert is_ready(service, bot_id)

    phases, error = upgraded(service, bad, never_ready_image, MIGRATION_SECONDS)
    assert [pb.UPGRADE_PHASE_ROLLING_BACK, pb.UPGRADE_PHASE_ROLLED_BACK] == phases[-2:], error
    assert error.startswith("UPGRADE_ROLLED_BACK")
    assert "the test says no" in error
    status = service.calls.status(bad)
    assert status is not None
    assert (older_image, manager_pb.CONTAINER_STATE_RUNNING) == (status.image, status.state)
    # The new version really had migrated the state, and the old one refuses such a state.
    assert schema(states / ".maintenance" / bad / "failed") > before[bad]
    _, given_to_new, given_back = proxy.seen_states[bad]
    assert given_to_new == given_back
    assert before[bad] == schema(states / bad)
    assert is_ready(service, bad)
    for bot_id in fleet:
        service.calls.remove(bot_id, grace=0)


def test_a_backup_of_a_running_bot_has_whole_databases_and_brings_it_back(  # noqa: PLR0917
    service: MaintainedService,
    proxy: StatesAtStarts,
    bots: Bots,
    openclaw_image: str,
    maintained_roots: Path,
    tmp_path: Path,
) -> None:
    bot_id = ready_bot(service, bots, openclaw_image)
    state = maintained_roots / "states" / bot_id
    backup = service.create_backup(bot_id, f"backup-{bot_id}")
    assert (1, 1) == (len(proxy.seen("/pause")), len(proxy.seen("/unpause")))
    with tarfile.open(maintained_roots / "backups" / f"{backup.backup_id}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    checks = integrity_checks(tmp_path / "state")
    assert DATABASE in checks
    assert {"ok"} == set(checks.values()), checks

    (state / "since").write_text("the backup")
    *_, last = service.restore(bot_id, backup.backup_id, f"restore-{bot_id}")
    assert pb.RESTORE_PHASE_COMMITTED == last.phase
    assert not (state / "since").exists()
    assert is_ready(service, bot_id)
    service.calls.stop(bot_id)
    checks = integrity_checks(state)
    assert DATABASE in checks
    assert {"ok"} == set(checks.values()), checks
    service.calls.remove(bot_id, grace=0)
