"""pytest-grpc's fixtures, on the real ``grpc.aio`` server with containers in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.maintenance import readiness
from tests.support.calls import Calls
from tests.support.fake_engine import FakeEngine
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observed_service import Serve, serving
from tests.support.serving import LoopedServer, looped_server, running_server

ServeOn = Callable[..., AbstractContextManager[list[str]]]
ServeLooped = Callable[..., AbstractContextManager[LoopedServer]]


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the roots of states and backups."""
    monkeypatch.setattr(readiness, "RUNNING_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "_LOOK_SECONDS", 0.05)
    for name in ("states", "backups"):
        (tmp_path / "roots" / name).mkdir(0o700, parents=True)
    return tmp_path / "roots"


@pytest.fixture
def states(roots: Path) -> Path:
    """The state root."""
    return roots / "states"


@pytest.fixture
def backups(roots: Path) -> Path:
    """The backup root."""
    return roots / "backups"


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    """A scripted engine, for tests of what is counted and traced of calls to it."""
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def unix(session_dir: Path) -> str:
    """An address for a listener, with a short path."""
    return f"unix://{session_dir}/services/s.sock"


@pytest.fixture
def memory(rpc_secrets: RootDirectory, states: Path) -> MemoryBackend:
    """What runs the containers; they keep states."""
    return MemoryBackend(rpc_secrets, state_root=RootDirectory(states, states))


@pytest.fixture
def bot_id(rpc_secrets: RootDirectory) -> str:
    """A bot with a secrets directory."""
    bot_id = str(uuid.uuid4())
    (rpc_secrets.path / bot_id).mkdir()
    return bot_id


@pytest.fixture
def rpc_secrets(tmp_path: Path) -> RootDirectory:
    """The server's secrets root."""
    return RootDirectory(tmp_path, tmp_path)


@pytest.fixture
def without_notices(memory: MemoryBackend) -> MemoryBackend:
    """No notices can be had: the live view never trusts itself, and reads go to the backend. Before the server."""
    memory.notices_fail = True
    return memory


@pytest.fixture
def server_config(rpc_secrets: RootDirectory, backups: Path) -> Callable[..., ServerConfig]:
    """A server's configuration, by its addresses and further fields; it keeps backups."""

    def build(*listen: str, **further: Any) -> ServerConfig:
        service = BackendConfig(secrets_root=rpc_secrets, docker_host="unix:///nowhere.sock")
        return ServerConfig(service=service, listen=listen, **{"backup_root": backups, **further})

    return build


@pytest.fixture
def serve_on(server_config: Callable[..., ServerConfig], memory: MemoryBackend) -> ServeOn:
    """Runs a server on the containers in memory, with the arguments of ``server_config``; yields its addresses."""
    return lambda *listen, **further: running_server(server_config(*listen, **further), backend=memory.opened)


@pytest.fixture
def serve_looped(server_config: Callable[..., ServerConfig], memory: MemoryBackend) -> ServeLooped:
    """As ``serve_on``; yields the server itself."""
    return lambda *listen, **further: looped_server(server_config(*listen, **further), backend=memory.opened)


@pytest.fixture
def serve(fake: FakeEngine, server_config: Callable[..., ServerConfig], session_dir: Path) -> Serve:
    """Serves with metrics, in a context, on an engine without containers."""

    def on_engine(*listen: str, **further: Any) -> ServerConfig:
        config = server_config(*listen, **further)
        return replace(config, service=replace(config.service, docker_host=fake.url))

    return serving(fake, on_engine, f"unix://{session_dir}/observed/{uuid.uuid4().hex[:8]}.sock")


@pytest.fixture
def grpc_addr(session_dir: Path) -> str:
    """A unix address in place of the plugin's port, whose socket it leaks."""
    return f"unix:{session_dir}/rpc/{uuid.uuid4().hex[:8]}.sock"


@pytest.fixture
def grpc_server(grpc_addr: str, serve_on: ServeOn) -> Iterator[list[str]]:
    """The real server in place of the plugin's synchronous one."""
    with serve_on(f"unix://{grpc_addr.removeprefix('unix:')}") as addresses:
        yield addresses


@pytest.fixture
def target(grpc_server: list[str]) -> str:
    """Where it serves: a unix socket."""
    return grpc_server[0]


@pytest.fixture
def grpc_create_channel(grpc_addr: str, grpc_server: list[str]) -> Callable[..., Any]:
    """The plugin's factory of plain channels, on this server."""
    import grpc

    options = [("grpc.default_authority", "localhost")]
    return lambda: grpc.insecure_channel(grpc_addr, options=options)


@pytest.fixture
def grpc_channel(grpc_create_channel: Callable[..., Any]) -> Iterator[Any]:
    """The plugin's channel: none of our client in it."""
    with grpc_create_channel() as channel:
        yield channel


@pytest.fixture
def grpc_stub_cls() -> type[ContainerManagerStub]:
    """The generated stub."""
    return ContainerManagerStub


@pytest.fixture
def grpc_stub(grpc_stub_cls: type[ContainerManagerStub], grpc_channel: Any) -> ContainerManagerStub:
    """The plugin's stub."""
    return grpc_stub_cls(grpc_channel)


@pytest.fixture
def rpc(grpc_stub: ContainerManagerStub) -> Calls:
    """The RPCs by bot id, over the plugin's stub."""
    return Calls(grpc_stub)


@pytest.fixture
def calls(rpc: Calls) -> Calls:
    """The same, by the name that it has on a real engine."""
    return rpc


@pytest.fixture
def bots(memory: MemoryBackend, rpc_secrets: RootDirectory) -> MemoryBots:
    """Makes bots."""
    return MemoryBots(memory, rpc_secrets.path)


@pytest.fixture
def provisioner(grpc_channel: Any) -> BotProvisionerStub:
    """The provisioner's generated stub."""
    return BotProvisionerStub(grpc_channel)


@pytest.fixture
def observer(grpc_channel: Any) -> ContainerObserverStub:
    """The observer's generated stub."""
    return ContainerObserverStub(grpc_channel)


@pytest.fixture
def maintainer(grpc_channel: Any) -> ContainerMaintainerStub:
    """The maintainer's generated stub."""
    return ContainerMaintainerStub(grpc_channel)
