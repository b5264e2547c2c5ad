"""Bots that BotMaker made are taken over while they run. On an engine of their own: `adopt` takes all that it finds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2 import GetContainerConfigRequest, StreamLogsRequest
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.docs.documents import blocks
from tests.docs.likeness import Likeness
from tests.docs.sandbox import Sandbox
from tests.docs.test_commands import run_console
from tests.support.calls import Calls, fails_with
from tests.support.observing import reading, watching
from tests.support.serving import running_server
from tests.support.upstream_botmaker import BotMakerFiles, build_image, create_container
from tests.support.waiting import wait_until

PAGE = "docs/migrating-from-botmaker.md"
BOT = "5f0c1d2e-7a3b-4c8d-9e6f-1a2b3c4d5e6f"
MISMATCH = ("FAILED_PRECONDITION", "CONTAINER_NAME_MISMATCH")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start an engine and own a bot's files")


@dataclass(frozen=True)
class Migration:
    """A machine with BotMaker's bots, on which the service runs."""

    engine: docker.DockerClient
    config: ServerConfig
    files: BotMakerFiles
    image: str
    port: int

    def make(self, hostname: str, bot_id: str) -> str:
        """A bot as BotMaker makes and starts it; its container's id."""
        self.files.add(hostname, {"TELEGRAM_TOKEN": b"1:telegram"}, {"openclaw.json": b"{}", "SOUL.md": b"a soul"})
        container_id = create_container(
            self.engine.api, hostname, bot_id, image=self.image, files=self.files, port=self.port, token="old-token"
        )
        self.engine.api.start(container_id)
        return container_id

    def adopt(self) -> subprocess.CompletedProcess[str]:
        """``container-manager adopt``, with the service's options."""
        service = self.config.service
        given = ("--docker-host", service.docker_host, "--secrets-root", str(service.secrets_root.path))
        command = [sys.executable, "-m", "container_manager", "adopt", *given]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def migration(
    private_engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory, session_dir: Path
) -> Iterator[Migration]:
    top = tmp_path_factory.mktemp("botmaker")
    # The bots' user has to reach what is below.
    for directory in (top, *list(top.parents)[:2]):
        directory.chmod(0o755)
    secrets, state = top / "lib" / "secrets", top / "lib" / "state"
    for root in (secrets, state):
        root.mkdir(mode=0o711, parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    image = build_image(client, ensure_test_image(private_engine.url), f"botmaker-test/env:{uuid.uuid4().hex[:12]}")
    service = BackendConfig(
        secrets_root=RootDirectory(secrets, secrets),
        state_root=RootDirectory(state, state),
        docker_host=private_engine.url,
        default_image=image,
    )
    config = ServerConfig(service=service, listen=(f"unix://{session_dir}/adoption/s.sock",))
    with running_server(config):
        yield Migration(client, config, BotMakerFiles(top / "data", top / "botmakers-secrets"), image, port)
    client.close()


@pytest.fixture
def calls(migration: Migration) -> Iterator[tuple[Calls, ContainerObserverStub]]:
    """The service's calls; every container is removed afterwards."""
    with connect(migration.config.listen[0]) as channel:
        yield Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
    for container in migration.engine.containers.list(all=True):
        container.remove(force=True, v=True)


def test_a_bot_made_as_botmaker_makes_them_is_adopted_while_it_runs(
    migration: Migration, calls: tuple[Calls, ContainerObserverStub]
) -> None:
    call, observer = calls
    bot_id, hostname = str(uuid.uuid4()), "anna"
    container_id = migration.make(hostname, bot_id)
    api = migration.engine.api
    shown = wait_until(lambda: call.status(bot_id), "it is shown")
    assert (container_id, "botmaker-anna", "anna") == (shown.container_id, shown.name, shown.hostname)
    assert pb.CONTAINER_STATE_RUNNING == shown.state
    for change in (call.create, call.start, call.stop, call.restart, call.remove):
        with fails_with(*MISMATCH) as caught:
            change(bot_id)
        assert {"bot_id": bot_id, "container_id": container_id, "name": "botmaker-anna"} == caught[0].metadata
    before = api.inspect_container(container_id)
    with (
        watching(observer, [bot_id]) as watch,
        reading(observer.StreamLogs(StreamLogsRequest(bot_id=bot_id, follow=True))) as log,
    ):
        log.wait_for(lambda messages: b"gateway in /app/botdata" in [each.entry.line for each in messages], "its log")
        done = migration.adopt()
        assert (f"adopted  botmaker-anna  -> botmaker-{bot_id}\n", "", 0) == (done.stdout, done.stderr, done.returncode)
        watch.wait_for(lambda messages: f"botmaker-{bot_id}" == messages[-1].changed.name, "the new name")
        after = api.inspect_container(container_id)
        ran = ("Status", "Pid", "StartedAt")
        assert [before["State"][key] for key in ran] == [after["State"][key] for key in ran]
        kept = ("Id", "Config", "HostConfig", "Path", "Args", "RestartCount")
        assert [before[key] for key in kept] == [after[key] for key in kept]
        status = call.status(bot_id)
        assert status is not None
        assert (container_id, f"botmaker-{bot_id}") == (status.container_id, status.name)
        with fails_with("FAILED_PRECONDITION", "CONFIG_NOT_REPRODUCIBLE"):
            observer.GetContainerConfig(GetContainerConfigRequest(bot_id=bot_id))
        call.stop(bot_id, grace=5)
        with fails_with("FAILED_PRECONDITION", "SECRETS_UNAVAILABLE"):
            call.start(bot_id)
        (migration.config.service.secrets_root.path / bot_id).mkdir()
        call.start(bot_id)
        log.wait_for(lambda messages: 2 == len(messages), "its log goes on")
        call.remove(bot_id, grace=5)
        assert log.wait_end() is None
    assert [] == migration.engine.containers.list(all=True)


def test_a_copy_by_docker_commit_is_not_taken_for_the_bot(
    migration: Migration, calls: tuple[Calls, ContainerObserverStub]
) -> None:
    call, _ = calls
    bot_id = str(uuid.uuid4())
    original = migration.engine.containers.get(migration.make("zoe", bot_id))
    image = original.commit("botmaker-test/committed")
    copy = migration.engine.containers.create(image, name="copy")
    lines = migration.adopt().stdout.splitlines()
    assert ["refused", "refused"] == [line.split()[0] for line in lines]
    # Both may have been made in the same second.
    assert 1 == sum("the bot has other containers too: botmaker-zoe" in line for line in lines)
    original.remove(force=True)
    assert "its labels are its image's, as after docker commit" in migration.adopt().stdout
    with fails_with(*MISMATCH):
        call.remove(bot_id)
    copy.reload()
    assert "copy" == copy.name
    copy.remove()
    migration.engine.images.remove(image.id)


def test_the_page_on_migrating_does_what_it_says(
    migration: Migration, calls: tuple[Calls, ContainerObserverStub], tmp_path: Path
) -> None:
    call, _ = calls
    service, top = migration.config.service, tmp_path / "sandbox"
    top.mkdir()
    environment = {
        "DOCKER_HOST": service.docker_host,
        "BOTCTL_TARGET": migration.config.listen[0],
        "CONTAINER_MANAGER_DOCKER_HOST": service.docker_host,
        "CONTAINER_MANAGER_SECRETS_ROOT": str(service.secrets_root.path),
        "CONTAINER_MANAGER_DEFAULT_IMAGE": service.default_image,
        "CONTAINER_MANAGER_LISTEN": f"unix://{tmp_path}/second.sock",
    }
    names = {
        "/var/lib/docker/volumes/botmaker_botmaker-data/_data": str(migration.files.data),
        "/var/lib/docker/volumes/botmaker_botmaker-secrets/_data": str(migration.files.secrets),
        "/var/lib/botmaker": str(service.secrets_root.path.parent),
        "anna": "berta",
        "botmaker-anna": "botmaker-berta",
        "19000": str(migration.port),
    }
    sandbox = Sandbox(top, PAGE, names, environment)
    bot_id = sandbox.ids[BOT]
    migration.make("berta", bot_id)
    wait_until(lambda: call.status(bot_id), "it is shown")
    likeness = Likeness(sandbox.ids)
    for block in blocks(PAGE):
        if block.language == "console":
            run_console(block, sandbox, likeness, [bot_id], guarded=False)
        else:
            done = sandbox.shell(block.text, guarded=False)
            assert 0 == done.returncode, f"{block.place}: {done.stdout}"
            self_made = call.status(bot_id)
            assert self_made is not None
            assert pb.CONTAINER_STATE_RUNNING == self_made.state
    secrets, state = service.secrets_root.path / bot_id, service.secrets_root.path.parent / "state" / bot_id
    assert ["old-token", "1:telegram"] == [(secrets / name).read_text() for name in ("GATEWAY_TOKEN", "TELEGRAM_TOKEN")]
    assert ["a soul", 1000] == [(state / "SOUL.md").read_text(), (state / "SOUL.md").stat().st_uid]
    document = migration.engine.api.inspect_container(f"botmaker-{bot_id}")
    assert {"/run/secrets": str(secrets), "/home/node/.openclaw": str(state)} == {
        each["Destination"]: each["Source"] for each in document["Mounts"]
    }
    assert "old-token" not in str(document)
