"""Containers of the bot image, created without the service: their secrets, their output, and their gateway.

Secrets reach the containers on volumes, not in directories of the host, so that owner and mode are the same for
every user who runs the tests.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.models.containers import Container
from docker.models.volumes import Volume
from docker.types import Mount

from tests.support import gateway
from tests.support.bots import NODE_UID
from tests.support.gateway import GATEWAY_PORT, GATEWAY_START_SECONDS
from tests.support.waiting import wait_until

SECRETS_DIRECTORY = "/run/secrets"
STATE_DIRECTORY = "/home/node/.openclaw"
CONFIG_FILE = f"{STATE_DIRECTORY}/openclaw.json"
PUBLISHED = f"{GATEWAY_PORT}/tcp"

ANTHROPIC_TELEGRAM = {"AI_PROVIDER": "anthropic", "AI_MODEL": "claude-opus-5", "CHANNEL_TYPE": "telegram"}
OPENAI_DISCORD = {"AI_PROVIDER": "openai", "AI_MODEL": "gpt-5.4", "CHANNEL_TYPE": "discord"}


@dataclass(frozen=True)
class SecretFile:
    """One entry of a secrets directory."""

    data: bytes = b""
    mode: int = 0o600
    uid: int = NODE_UID
    symlink_to: str = ""
    hard_link_to: str = ""

    def member(self, name: str) -> tarfile.TarInfo:
        """The entry of a tar archive."""
        info = tarfile.TarInfo(name)
        info.mode, info.uid, info.gid = self.mode, self.uid, self.uid
        if self.symlink_to:
            info.type, info.linkname = tarfile.SYMTYPE, self.symlink_to
        elif self.hard_link_to:
            info.type, info.linkname = tarfile.LNKTYPE, self.hard_link_to
        else:
            info.size = len(self.data)
        return info


def random_secrets(*names: str) -> dict[str, SecretFile]:
    """Secret files, each with a value that occurs nowhere else."""
    return {name: SecretFile(f"{secrets.randbelow(10**9)}:{secrets.token_hex(24)}\n".encode()) for name in names}


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a container that has ended."""

    exit_code: int
    stdout: str
    stderr: str
    container: Container


@dataclass
class BotContainers:
    """Creates containers of the bot image, hardened as the service hardens them, and removes all of them."""

    engine: docker.DockerClient
    image: str
    labels: dict[str, str]
    containers: list[Container] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)

    def volume(self) -> Volume:
        """A new volume."""
        volume = self.engine.volumes.create(f"bot-image-{uuid.uuid4()}", labels=self.labels)
        self.volumes.append(volume)
        return volume

    def create(
        self,
        environment: Mapping[str, str],
        files: Mapping[str, SecretFile],
        command: Sequence[str] = (),
        state: Volume | None = None,
    ) -> Container:
        """A container with these secrets, not started."""
        secrets_volume = self.volume()
        mounts = [Mount(SECRETS_DIRECTORY, str(secrets_volume.name), read_only=True)]
        if state is not None:
            mounts.append(Mount(STATE_DIRECTORY, str(state.name)))
        self._fill(secrets_volume, files)
        container = self.engine.containers.create(
            self.image,
            list(command) or None,
            environment=dict(environment),
            labels=self.labels,
            mounts=mounts,
            ports={PUBLISHED: ("127.0.0.1", 0)},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            init=True,
        )
        self.containers.append(container)
        return container

    def run(
        self, environment: Mapping[str, str], files: Mapping[str, SecretFile], command: Sequence[str] = ()
    ) -> Outcome:
        """Runs a container to its end."""
        container = self.create(environment, files, command)
        container.start()
        exit_code = int(container.wait(timeout=120)["StatusCode"])
        stdout = container.logs(stdout=True, stderr=False).decode()
        stderr = container.logs(stdout=False, stderr=True).decode()
        return Outcome(exit_code, stdout, stderr, container)

    def start_gateway(
        self, environment: Mapping[str, str], files: Mapping[str, SecretFile], state: Volume | None = None
    ) -> Gateway:
        """A container whose gateway is live."""
        started = Gateway(self.create(environment, files, state=state), files)
        started.container.start()
        started.wait_until_live()
        return started

    def remove_all(self) -> None:
        """Remove the containers and the volumes."""
        for container in self.containers:
            container.remove(force=True, v=True)
        for volume in self.volumes:
            volume.remove(force=True)

    def _fill(self, volume: Volume, files: Mapping[str, SecretFile]) -> None:
        """Unpacks the files into a volume, through a container that is never started."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, file in files.items():
                tar.addfile(file.member(name), io.BytesIO(file.data))
        mounts = [Mount(SECRETS_DIRECTORY, str(volume.name))]
        carrier = self.engine.containers.create(self.image, labels=self.labels, mounts=mounts)
        self.containers.append(carrier)
        assert carrier.put_archive(SECRETS_DIRECTORY, archive.getvalue())


@dataclass(frozen=True)
class Gateway:
    """A started gateway in its container."""

    container: Container
    secret_files: Mapping[str, SecretFile]

    @property
    def token(self) -> str:
        """The content of the gateway's token file."""
        return self.secret_files["GATEWAY_TOKEN"].data.decode().strip()

    @property
    def secret_values(self) -> list[bytes]:
        """The secrets, which must not occur outside their files."""
        return [file.data.strip() for file in self.secret_files.values()]

    def wait_until_live(self) -> None:
        """Wait until the gateway is live; fails with the container's log if it ends or is not live in time."""
        try:
            wait_until(self._is_live, "the gateway is live", GATEWAY_START_SECONDS)
        except AssertionError as failure:
            failure.add_note(self.logs())
            raise

    def use_tool(self, token: str | None) -> gateway.Answer:
        """Calls a tool that only reads."""
        self.container.reload()
        return gateway.use_tool(self._port(), token)

    def shell(self, script: str) -> bytes:
        """The output of a shell script in the container, which must succeed."""
        exit_code, output = self.container.exec_run(["sh", "-c", script], user="node")
        assert exit_code == 0, output
        assert isinstance(output, bytes)
        return output

    def logs(self) -> str:
        """All that the container wrote."""
        return self.container.logs().decode()

    def _is_live(self) -> bool:
        self.container.reload()
        assert self.container.status == "running", "the container has ended"
        return PUBLISHED in self.container.ports and gateway.is_live(self._port())

    def _port(self) -> int:
        bindings = self.container.ports[PUBLISHED]
        assert bindings, "the port is not published"
        return int(bindings[0]["HostPort"])


def read_tree(container: Container, path: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Every regular file at and below a path of a container, running or not."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        return {member.name: (member, data.read()) for member, data in files if data is not None}


def rendered(container: Container) -> dict[str, Any]:
    """The configuration that the entry point wrote."""
    ((_, text),) = read_tree(container, CONFIG_FILE).values()
    config: dict[str, Any] = json.loads(text)
    return config
