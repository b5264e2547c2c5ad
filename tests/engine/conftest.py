"""Fixtures of the tests on a real engine."""

from __future__ import annotations

import io
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from container_manager.backends.docker.docker_service import DockerService
from container_manager.config import BackendConfig
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bot_image import BotContainers
from tests.support.bot_image_bench import MOUNTS, TMPFS, Bench
from tests.support.maintained_service import MaintainedService, made_roots, service_of_root
from tests.support.registry import Registry
from tests.support.start_failure_contract import BuildImage


@pytest.fixture
def build_image(engine: docker.DockerClient, test_image: str) -> Iterator[BuildImage]:
    """Builds an image from the test image and more Dockerfile lines; it is removed after the test."""
    tags = []

    def build(lines: str) -> str:
        tag = f"botmaker-test/built:{uuid.uuid4().hex[:12]}"
        dockerfile = io.BytesIO(f"FROM {test_image}\n{lines}\n".encode())
        for message in engine.api.build(fileobj=dockerfile, tag=tag, rm=True, forcerm=True, decode=True):
            assert "error" not in message, message
        tags.append(tag)
        return tag

    yield build
    for tag in tags:
        with suppress(ImageNotFound):
            engine.images.remove(tag, force=True)


@pytest.fixture
def volume_image(build_image: BuildImage) -> str:
    """An image that declares a volume."""
    return build_image("VOLUME /data")


@pytest.fixture(scope="module")
def bot_containers(
    engine: docker.DockerClient, openclaw_image: str, test_labels: dict[str, str]
) -> Iterator[BotContainers]:
    """Creates containers of the bot image without the service; they are removed after the module."""
    made = BotContainers(engine, openclaw_image, test_labels)
    yield made
    made.remove_all()


@pytest.fixture(scope="module")
def bench(engine: docker.DockerClient, openclaw_image: str, test_labels: dict[str, str]) -> Iterator[Bench]:
    """A container of the bot image in which tests run its entry point; removed after the module."""
    container = engine.containers.run(
        openclaw_image,
        ["sleep", "infinity"],
        labels=test_labels,
        init=True,
        detach=True,
        tmpfs=TMPFS,
        mounts=list(MOUNTS),
    )
    yield Bench(container)
    container.remove(force=True, v=True)


@pytest.fixture
def docker_service(service_config: BackendConfig) -> Iterator[DockerService]:
    """The lifecycle without gRPC."""
    service = DockerService(service_config)
    yield service
    service.close()


@pytest.fixture(scope="module")
def private_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """A private engine, for restarts and faults that must not happen to a shared one."""
    with PrivateEngine(tmp_path_factory.mktemp("engine")) as engine:
        ensure_test_image(engine.url)
        yield engine


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A real registry on a loopback port."""
    with Registry() as registry:
        yield registry


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """The address of a registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def maintained_roots(session_dir: Path, tmp_path: Path) -> Path:
    """A directory with the roots of states and backups."""
    return made_roots(session_dir / tmp_path.name)


@pytest.fixture
def maintained(
    engine_url: str, maintained_roots: Path, secrets_root: Path, test_image: str
) -> Iterator[MaintainedService]:
    """A service whose bots are root's."""
    service = service_of_root(engine_url, maintained_roots, secrets_root, test_image)
    yield service
    service.close()
