"""Fixtures for every test that needs a real Docker Engine. Those in ``tests/unit`` use none of them."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import docker
import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.observability.log_format import configure_logging
from container_manager.rpc import call_deadline
from container_manager_client import connect
from dev.images import ensure_bot_image, ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.restart_contract import AnotherService
from tests.support.serving import running_calls, running_server
from tests.support.side_by_side_contract import WaitForLog

# The service's log goes to pytest's, which shows it with a failed test.
configure_logging("text", "info")
logging.getLogger().handlers.clear()

# A job in a shell's background has Ctrl-C ignored, and so would every process that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# What a test made is removed also when the run is terminated.
signal.signal(signal.SIGTERM, signal.default_int_handler)

DEFAULT_ENGINE = "unix:///var/run/docker.sock"


@pytest.fixture
def early_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come after half of a deadline: 0.2 s before its end is too late for a busy machine."""
    monkeypatch.setattr(call_deadline, "_ANSWER_SHARE", 0.5)
    monkeypatch.setattr(call_deadline, "_ANSWER_MAX_SECONDS", 60.0)


@pytest.fixture(scope="session")
def engine_url() -> str:
    """The engine that the tests use."""
    return os.environ.get("DOCKER_HOST", DEFAULT_ENGINE)


@pytest.fixture(scope="session")
def engine(engine_url: str, test_labels: dict[str, str], all_bot_ids: list[str]) -> Iterator[docker.DockerClient]:
    """The engine as the tests themselves talk to it, beside the service. At the end nothing of theirs may be left."""
    try:
        client = docker.DockerClient(base_url=engine_url, version="auto")
    except docker.errors.DockerException as exc:
        pytest.exit(f"no Docker Engine answers at {engine_url} ({exc}); `make test` brings one", returncode=1)
    yield client
    labels = [f"{key}={value}" for key, value in test_labels.items()]
    left = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    managed = client.containers.list(all=True, filters={"label": "botmaker.managed=true"}, ignore_removed=True)
    left += [container for container in managed if container.labels.get("botmaker.bot-id") in all_bot_ids]
    for container in left:
        container.remove(force=True, v=True)
    of_bots = client.networks.list(filters={"label": "botmaker.managed=true"})
    own = [network for network in of_bots if network.attrs["Labels"].get("botmaker.bot-id") in all_bot_ids]
    for network in [*client.networks.list(filters={"label": labels}), *own]:
        left.append(network)
        network.remove()
    client.close()
    assert left == [], f"left behind: {[container.name for container in left]}"


@pytest.fixture(scope="session")
def test_labels() -> dict[str, str]:
    """Labels of every container that the tests make themselves, not through the service."""
    return {"botmaker.test-run": str(uuid.uuid4())}


@pytest.fixture(scope="session")
def all_bot_ids() -> list[str]:
    """Every bot that any test made."""
    return []


@pytest.fixture(scope="session")
def test_image(engine_url: str) -> str:
    """A 2 MB busybox image."""
    return ensure_test_image(engine_url)


@pytest.fixture(scope="session")
def openclaw_image(engine_url: str) -> str:
    """The bot image, built when it is missing or older than its sources; while somebody builds it, this waits."""
    return ensure_bot_image(engine_url)


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A directory with a short path, as unix sockets need it, that other users may enter, as the engine's do."""
    with tempfile.TemporaryDirectory(prefix="cm-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture(scope="session")
def secrets_root(session_dir: Path) -> Path:
    """The server's secrets root."""
    path = session_dir / "secrets"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def bots(
    engine: docker.DockerClient, secrets_root: Path, all_bot_ids: list[str], request: pytest.FixtureRequest
) -> Iterator[Bots]:
    """Makes bots, and removes their containers after the test."""
    made = Bots(engine, secrets_root, all_bot_ids)
    request.node.stash[BOTS] = made
    yield made
    made.remove_all()


@pytest.fixture(scope="session")
def service_config(engine_url: str, secrets_root: Path, test_image: str) -> BackendConfig:
    """The service on the real engine, with the small image as its default."""
    root = RootDirectory(secrets_root, secrets_root)
    return BackendConfig(secrets_root=root, docker_host=engine_url, default_image=test_image)


@pytest.fixture(scope="session")
def target(service_config: BackendConfig, session_dir: Path) -> Iterator[str]:
    """Where the real server serves: a unix socket."""
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/server/s.sock",))
    with running_server(config) as addresses:
        yield addresses[0]


@pytest.fixture
def another_service(service_config: BackendConfig, session_dir: Path) -> AnotherService:
    """Starts another service on the same engine."""
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/another/s.sock",))
    return partial(running_calls, config)


@pytest.fixture(scope="session")
def stub(target: str) -> Iterator[ContainerManagerStub]:
    """The generated stub on the client's channel."""
    with connect(target) as channel:
        yield ContainerManagerStub(channel)


@pytest.fixture(scope="session")
def calls(stub: ContainerManagerStub) -> Calls:
    """The RPCs by bot id."""
    return Calls(stub)


@pytest.fixture(scope="session")
def observer(target: str) -> Iterator[ContainerObserverStub]:
    """The observer's generated stub on a channel of its own."""
    with connect(target) as channel:
        yield ContainerObserverStub(channel)


@pytest.fixture
def wait_for_log(bots: Bots) -> WaitForLog:
    """Waits until a bot has written this."""
    return bots.wait_for_log


BOTS = pytest.StashKey[Bots]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that need the bot image last: `make test` builds it beside the others."""
    needing = [item for item in items if "openclaw_image" in getattr(item, "fixturenames", ())]
    for item in needing:
        item.add_marker(pytest.mark.timeout(600))  # it may wait for the image, and even have to build it anew
    modules = {item.path for item in needing}
    items.sort(key=lambda item: item.path in modules)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show every container of a failed test: the engine is the only one that knows."""
    report = yield
    if report.when == "call" and report.failed and BOTS in item.stash:
        report.sections.append(("containers", item.stash[BOTS].describe()))
    return report
