"""The deployed images and deploy/compose.yaml on the real engine."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker
import httpx
from docker.models.containers import Container

from dev.debian import install
from dev.python_base import ensure_python_base
from tests.support.pip_arguments import pip_arguments

COMPOSE_FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
BUILD_SECONDS = 1700
COMMAND_SECONDS = 300


def compose_command() -> list[str]:
    """The installed compose command. Raises :class:`~dev.debian.MissingEngine` if there is none."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        return ["docker", "compose"]
    install(["docker-compose"])
    return ["docker-compose"]


@dataclass(frozen=True)
class Deployment:
    """A new compose project, with settings as its users have them in ``.env``."""

    command: Sequence[str]
    engine_url: str
    settings: Mapping[str, str]
    settings_file: Path
    name: str

    def __call__(self, *arguments: str, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """The output of compose with these arguments; it must succeed."""
        lines = [f"{name}={value}\n" for name, value in self.settings.items()]
        self.settings_file.write_text("".join(lines))
        command = [*self.command, "--file", str(COMPOSE_FILE), "--env-file", str(self.settings_file)]
        done = subprocess.run(
            [*command, "--project-name", self.name, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        assert done.returncode == 0, f"compose {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def container(self, engine: docker.DockerClient, service: str) -> Container:
        """The container of a service."""
        (container_id,) = self("ps", "-q", service).split()
        return engine.containers.get(container_id)

    def http(self) -> httpx.Client:
        """An HTTP client of the API tier, at its published port."""
        address = self("port", "api-tier", "8000").strip()
        assert address.startswith("127.0.0.1:")
        return httpx.Client(base_url=f"http://{address}", timeout=120, trust_env=False)

    def left(self, engine: docker.DockerClient) -> list[str]:
        """The names of the project's remaining containers, networks and volumes."""
        mine = {"label": f"com.docker.compose.project={self.name}"}
        containers = engine.containers.list(all=True, filters=mine, ignore_removed=True)
        found = [*containers, *engine.networks.list(filters=mine), *engine.volumes.list(filters=mine)]
        return [each.name for each in found]

    def _environment(self) -> dict[str, str]:
        # Environment variables would override those of the file.
        ours = {name: value for name, value in os.environ.items() if name not in self.settings}
        ours = {name: value for name, value in ours.items() if not name.startswith(("PIP_", "COMPOSE_"))}
        ours.pop("DOCKER_CONTEXT", None)
        # A docker command without buildx has only the classic builder, and fails unless that is selected.
        if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode:
            ours["DOCKER_BUILDKIT"] = "0"
        return {**ours, "DOCKER_HOST": self.engine_url}


class LabelledBase:
    """The base image with one more label, which the images of all stages that are built on it inherit."""

    def __init__(self, engine: docker.DockerClient, engine_url: str, label: tuple[str, str]) -> None:
        self.engine = engine
        self.filters = {"label": "=".join(label)}
        base = ensure_python_base(engine_url)
        self.pip_arguments = pip_arguments(base)
        self.tag = f"botmaker-test/python:{uuid.uuid4().hex[:12]}"
        dockerfile = io.BytesIO(f"FROM {base}\nLABEL {label[0]}={json.dumps(label[1])}\n".encode())
        for message in engine.api.build(fileobj=dockerfile, tag=self.tag, rm=True, forcerm=True, decode=True):
            assert "error" not in message, message

    def remove_all(self) -> None:
        """Remove it and all images that were built on it; an image can be removed after those built on it."""
        while images := self.engine.api.images(all=True, filters=self.filters):
            before = len(images)
            for image in sorted(images, key=lambda image: image["Created"], reverse=True):
                try:
                    self.engine.api.remove_image(image["Id"], force=True)
                except docker.errors.APIError:
                    continue
            assert len(self.engine.api.images(all=True, filters=self.filters)) < before, "images that stay"
