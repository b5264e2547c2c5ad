"""Fixtures of the tests with hostile input: a private engine, and the service on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.model import PullPolicy
from container_manager_client import connect
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.hostile.engine_state import EngineState
from tests.support.bots import Bots
from tests.support.serving import running_server


@pytest.fixture(scope="session")
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """A private engine, so that only these tests change it."""
    with PrivateEngine(tmp_path_factory.mktemp("engine")) as engine:
        ensure_test_image(engine.url)
        yield engine


@pytest.fixture(scope="session")
def own_client(own_engine: PrivateEngine) -> Iterator[docker.DockerClient]:
    """A Docker client of the private engine."""
    client = docker.DockerClient(base_url=own_engine.url, version="auto")
    yield client
    client.close()


@pytest.fixture(scope="session")
def engine_state(own_client: docker.DockerClient) -> EngineState:
    """Takes pictures of the private engine."""
    return EngineState(own_client.api)


@pytest.fixture
def own_bots(own_client: docker.DockerClient, secrets_root: Path) -> Iterator[Bots]:
    """Creates bots on the private engine; their containers are removed after the test."""
    made = Bots(own_client, secrets_root)
    yield made
    made.remove_all()


@pytest.fixture(scope="session")
def own_state_root(session_dir: Path) -> Path:
    """The state root of the service on the private engine."""
    path = session_dir / "hostile-state"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture(scope="session")
def own_config(own_engine: PrivateEngine, secrets_root: Path, own_state_root: Path, test_image: str) -> BackendConfig:
    """The configuration of a service on the private engine that pulls no images."""
    secrets, state = (RootDirectory(root, root) for root in (secrets_root, own_state_root))
    return BackendConfig(
        secrets_root=secrets,
        state_root=state,
        docker_host=own_engine.url,
        default_image=test_image,
        pull_policy=PullPolicy.NEVER,
    )


@pytest.fixture(scope="session")
def own_target(own_config: BackendConfig, session_dir: Path) -> Iterator[str]:
    """The address of its unix socket."""
    config = ServerConfig(service=own_config, listen=(f"unix://{session_dir}/hostile/s.sock",))
    with running_server(config) as addresses:
        yield addresses[0]


@pytest.fixture(scope="session")
def own_channel(own_target: str) -> Iterator[object]:
    """A channel to the service."""
    with connect(own_target) as channel:
        yield channel
