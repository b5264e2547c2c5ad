"""Fixtures of several unit tests: a scripted engine, a bot with its secrets directory, a service on them, a swarm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from container_manager.backends.docker.docker_service import DockerService
from container_manager.backends.swarm import left_containers
from container_manager.backends.swarm.lifecycle import SwarmLifecycle
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.engine.client import EngineClient
from container_manager.engine.long_calls import LongCalls
from tests.support.fake_engine import FakeEngine
from tests.support.scripted_service import ScriptedService
from tests.unit.botctl_runs import Run, run
from tests.unit.documents import BOT
from tests.unit.serve_runs import Serve, serve_runs
from tests.unit.swarm_operations import hurry, lifecycle_of
from tests.unit.swarm_world import SwarmWorld
from tests.unit.working import Work, making_works

# A slow machine is no failure, and a counter-example belongs in its own test.
settings.register_profile("unit", max_examples=50, deadline=None, database=None)
settings.load_profile("unit")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as fake:
        yield fake


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[EngineClient]:
    """A client of the scripted engine."""
    client = EngineClient(engine.url, timeout_seconds=10)
    yield client
    client.close()


@pytest.fixture
def calls(engine: FakeEngine) -> Iterator[LongCalls]:
    """Long calls to the scripted engine."""
    calls = LongCalls(engine.url, timeout_seconds=10)
    yield calls
    calls.close()


@pytest.fixture
def secrets_root(tmp_path: Path) -> RootDirectory:
    """A root with the secrets directory of :data:`BOT`."""
    root = tmp_path / "secrets"
    (root / BOT).mkdir(parents=True)
    return RootDirectory(root, root)


@pytest.fixture
def make_service(engine: FakeEngine, secrets_root: RootDirectory) -> Iterator[Callable[..., DockerService]]:
    """Creates services on the scripted engine; they are closed after the test."""
    with ExitStack() as stack:

        def make(**config: Any) -> DockerService:
            defaults = {"secrets_root": secrets_root, "docker_host": engine.url, "engine_timeout_seconds": 5}
            service = DockerService(BackendConfig(**{**defaults, **config}))
            stack.callback(service.close)
            return service

        yield make


@pytest.fixture
def service(make_service: Callable[..., DockerService]) -> DockerService:
    return make_service()


@pytest.fixture
def works() -> Iterator[Callable[..., Work]]:
    """Creates operations; all are released after the test."""
    yield from making_works()


@pytest.fixture
def scripted() -> Iterator[ScriptedService]:
    """A container manager in memory, for its clients."""
    with ScriptedService() as service:
        yield service


@pytest.fixture
def botctl_run(scripted: ScriptedService) -> Run:
    """Runs ``botctl`` against the scripted service."""
    return partial(run, BOTCTL_TARGET=scripted.target)


@pytest.fixture
def world() -> SwarmWorld:
    """A swarm in memory."""
    return SwarmWorld()


@pytest.fixture
def make_lifecycle(world: SwarmWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SwarmLifecycle]]:
    """Creates the operations of services on the swarm in memory; they are closed after the test."""
    hurry(monkeypatch)
    with ExitStack() as stack:

        def make(node_engines: Mapping[str, str] | None = None, **config: Any) -> SwarmLifecycle:
            lifecycle = lifecycle_of(world, node_engines or {}, **config)
            stack.callback(lifecycle.close)
            return lifecycle

        yield make


@pytest.fixture
def lifecycle(make_lifecycle: Callable[..., SwarmLifecycle]) -> SwarmLifecycle:
    return make_lifecycle()


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that a swarm has forgotten has no grace period to keep."""
    monkeypatch.setattr(left_containers, "grace_of", lambda _: 0)


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Runs ``container-manager serve`` with a server that only keeps its config."""
    yield from serve_runs(tmp_path, monkeypatch)
