"""pytest-grpc's fixtures, on the real ``grpc.aio`` server in front of a scripted engine."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import DockerServiceConfig, ServerConfig
from tests.support.calls import Calls
from tests.support.fake_engine import FakeEngine
from tests.support.observed_service import Serve, serving
from tests.support.serving import running_server

ENGINE_TIMEOUT_SECONDS = 2.0


@pytest.fixture
def fake(session_dir: Path) -> Iterator[FakeEngine]:
    """An engine for the faults that a real one does not show."""
    with FakeEngine() as engine:
        yield engine


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
def server_config(fake: FakeEngine, rpc_secrets: RootDirectory) -> Callable[..., ServerConfig]:
    """A server's configuration on the scripted engine."""

    def build(*listen: str, **further: Any) -> ServerConfig:
        service = DockerServiceConfig(
            secrets_root=rpc_secrets, docker_host=fake.url, engine_timeout_seconds=ENGINE_TIMEOUT_SECONDS
        )
        return ServerConfig(service=service, listen=listen, **further)

    return build


@pytest.fixture
def serve(fake: FakeEngine, server_config: Callable[..., ServerConfig], session_dir: Path) -> Serve:
    """Serves with metrics, in a context, on an engine without containers."""
    return serving(fake, server_config, f"unix://{session_dir}/observed/{uuid.uuid4().hex[:8]}.sock")


@pytest.fixture
def grpc_addr(session_dir: Path) -> str:
    """A unix address in place of the plugin's port, whose socket it leaks."""
    return f"unix:{session_dir}/rpc/{uuid.uuid4().hex[:8]}.sock"


@pytest.fixture
def grpc_server(grpc_addr: str, server_config: Callable[..., ServerConfig]) -> Iterator[list[str]]:
    """The real server in place of the plugin's synchronous one."""
    with running_server(server_config(f"unix://{grpc_addr.removeprefix('unix:')}")) as addresses:
        yield addresses


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
