"""A swarm of one manager and two workers, which all tests here share."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import docker
import pytest

from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.config import BackendConfig, ServerConfig, SwarmConfig
from container_manager_client import connect
from dev import docker_command
from dev.engines.releases import RELEASES
from dev.engines.tree import ensure_tree
from dev.images import CHECKOUT, TEST_IMAGE, ensure_test_image
from dev.swarm import SwarmBed
from dev.swarm.conformance import ENGINES
from tests.support.calls import Calls
from tests.support.fault_table import FaultRow, add, print_table
from tests.support.restart_contract import AnotherService
from tests.support.serving import running_server
from tests.support.side_by_side_contract import WaitForLog
from tests.support.start_failure_contract import BuildImage
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.swarm_service import KeptService, kept_service, root_of, swarm_calls

# What docs/swarm.md asks of every node: engines below API 1.44 keep no-new-privileges only this way, and a swarm gives
# a bot no control group namespace of its own.
SETTINGS = {"no-new-privileges": True, "default-cgroupns-mode": "private"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Machines of our own need root."""
    if os.geteuid() != 0:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="machines of our own need root"))


@pytest.fixture(
    scope="session", params=[ENGINES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in ENGINES[1:])]
)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Which engine the nodes have: the one that is installed, or one of the releases."""
    return str(request.param)


@pytest.fixture(scope="session")
def engine_tree(engine_name: str) -> Path | None:
    """The engine's Debian release, for SwarmBed; None for the engine that is installed."""
    release = RELEASES.get(engine_name)
    return ensure_tree(release, CHECKOUT / ".dev" / "engines") if release else None


@pytest.fixture(scope="session")
def session_bed(
    tmp_path_factory: pytest.TempPathFactory,
    engine_tree: Path | None,
    engine_name: str,
    record_testsuite_property: Callable[[str, object], None],
) -> Iterator[SwarmBed]:
    """The swarm, for fixtures that last as long as it does. Its nodes n1 (manager), n2 and n3 have the test image."""
    with SwarmBed(tmp_path_factory.mktemp("bed"), tree=engine_tree, settings=SETTINGS) as bed:
        url = bed.nodes[0].docker_url
        versions = docker_command.run(url, "version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}")
        record_testsuite_property(engine_name, versions.decode().strip())
        bed.load_image(ensure_test_image(url))
        yield bed


@pytest.fixture
def bed(session_bed: SwarmBed) -> Iterator[SwarmBed]:
    """The swarm, for one test, which may cut and kill: afterwards all nodes are up again and ready."""
    yield session_bed
    session_bed.restore()


@pytest.fixture(scope="session")
def swarm_image(session_bed: SwarmBed) -> str:
    """The test image, as it is named in the swarm's registry."""
    return f"{session_bed.registry}/{TEST_IMAGE}"


@pytest.fixture(scope="session")
def swarm_service(session_bed: SwarmBed, swarm_image: str) -> BackendConfig:
    """The service beside the manager n1, with states on the storage that all nodes share."""
    root = RootDirectory(session_bed.shared, session_bed.shared)
    return BackendConfig(
        secrets_root=root,
        state_root=root,
        bot_user=BotUser(0, 0),
        docker_host=session_bed.nodes[0].docker_url,
        default_image=swarm_image,
        grace_seconds=2,
    )


@pytest.fixture(scope="session")
def swarm_config(session_bed: SwarmBed) -> SwarmConfig:
    """Every node's engine is named. Nothing is weaker, since their daemons have the setting of :data:`SETTINGS`."""
    engines = {node.name: node.docker_url for node in session_bed.nodes}
    return SwarmConfig(allow_weaker=("no-new-privileges",), node_engines=engines)


@pytest.fixture(scope="session")
def target(swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path) -> Iterator[str]:
    """Where the service serves that uses the swarm."""
    config = ServerConfig(service=swarm_service, swarm=swarm_config, listen=(f"unix://{session_dir}/swarm/s.sock",))
    with running_server(config, backend=partial(SwarmBackend, swarm_service, swarm_config)) as addresses:
        yield addresses[0]


@pytest.fixture(scope="session")
def provisioner(target: str) -> Iterator[BotProvisionerStub]:
    """The provisioner's stub."""
    with connect(target) as channel:
        yield BotProvisionerStub(channel)


@pytest.fixture
def another_service(swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path) -> AnotherService:
    """Starts another service with the same options."""
    return partial(swarm_calls, swarm_service, swarm_config, session_dir / "another" / "s.sock")


@pytest.fixture
def pinned(
    swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path, tmp_path: Path
) -> Iterator[KeptService]:
    """A service on the swarm, with states on single nodes, whose engines are named."""
    with _pinned(swarm_service, swarm_config, session_dir, tmp_path, "p") as kept:
        yield kept


@pytest.fixture
def unreached(
    swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path, tmp_path: Path
) -> Iterator[KeptService]:
    """The same with the backups of :func:`pinned`, and without the engines of the workers, which get the bots."""
    swarm = replace(swarm_config, node_engines={"n1": swarm_config.node_engines["n1"]})
    with _pinned(swarm_service, swarm, session_dir, tmp_path, "u") as kept:
        yield kept


def _pinned(
    service: BackendConfig, swarm: SwarmConfig, session_dir: Path, tmp_path: Path, name: str
) -> AbstractContextManager[KeptService]:
    service = replace(service, secrets_root=root_of(tmp_path / f"{name}-journal"), bot_user=BotUser(1000, 1001))
    service = replace(service, state_root=root_of(tmp_path / f"{name}-copies"))
    backups = root_of(tmp_path / "pinned-backups").path
    return kept_service(service, replace(swarm, placement="pinned"), f"unix://{session_dir}/{name}/s.sock", backups)


@pytest.fixture
def alone(session_bed: SwarmBed, swarm_image: str, session_dir: Path, tmp_path: Path) -> Iterator[KeptService]:
    """A service on the one engine of a machine."""
    service = BackendConfig(
        secrets_root=root_of(tmp_path / "secrets"),
        state_root=root_of(tmp_path / "states"),
        bot_user=BotUser(0, 0),
        docker_host=session_bed.nodes[-1].docker_url,
        default_image=swarm_image,
        grace_seconds=2,
    )
    with kept_service(service, None, f"unix://{session_dir}/a/s.sock", root_of(tmp_path / "backups").path) as kept:
        yield kept


@pytest.fixture
def managers_only(swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path) -> Iterator[Calls]:
    """Calls to a service for which no node's engine is named, and whose operator accepts memory limits without swap."""
    swarm = SwarmConfig(allow_weaker=(*swarm_config.allow_weaker, "swap"))
    with swarm_calls(swarm_service, swarm, session_dir / "only" / "s.sock") as calls:
        yield calls


@pytest.fixture
def bots(session_bed: SwarmBed) -> Iterator[SwarmBots]:
    """Makes bots, and removes all that the swarm has of them after the test."""
    made = SwarmBots(session_bed.nodes[0].docker_url)
    yield made
    # A task on a node that is down is never gone.
    session_bed.restore()
    made.activate_nodes()
    made.remove_all()
    made.close()


@pytest.fixture
def wait_for_log(session_bed: SwarmBed, bots: SwarmBots) -> WaitForLog:
    """Waits until a bot has written this in its present run."""
    return lambda bot_id, text: container_of(session_bed, bots, bot_id).wait_for_log(text.decode())


@pytest.fixture
def build_image(session_bed: SwarmBed, swarm_image: str) -> Iterator[BuildImage]:
    """Builds an image from the test image and more Dockerfile lines, on a node, and puts it into the registry."""
    node = docker.APIClient(base_url=session_bed.nodes[0].docker_url, version="auto", timeout=60)

    def build(lines: str) -> str:
        tag = f"{session_bed.registry}/built:{uuid.uuid4().hex[:12]}"
        dockerfile = io.BytesIO(f"FROM {swarm_image}\n{lines}\n".encode())
        for message in (
            *node.build(fileobj=dockerfile, tag=tag, rm=True, forcerm=True, decode=True, network_mode="none"),
            *node.push(tag, stream=True, decode=True),
        ):
            assert "error" not in message, message
        return tag

    yield build
    node.close()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[FaultRow], None]:
    """Adds a row to the table of faults; fails if the row lost anything."""
    return partial(add, request.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    print_table(terminalreporter, config)
