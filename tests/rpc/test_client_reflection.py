"""The client's channels complete every kind of call, so that reflection works over TCP too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from container_manager_client import connect, connect_aio
from tests.rpc.conftest import ServeOn

REQUEST = reflection_pb2.ServerReflectionRequest(list_services="")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the server creates its token."""
    return tmp_path / "token"


@pytest.fixture
def target(serve_on: ServeOn, token_file: Path) -> Iterator[str]:
    """A TCP listener with a token."""
    with serve_on("tcp://127.0.0.1:0", token_file=token_file) as addresses:
        yield addresses[0]


def names(response: reflection_pb2.ServerReflectionResponse) -> set[str]:
    return {service.name for service in response.list_services_response.service}


def test_reflection_over_tcp_carries_the_channels_token(target: str, token_file: Path) -> None:
    with connect(target, token=token_file.read_text().strip()) as channel:
        (response,) = ServerReflectionStub(channel).ServerReflectionInfo(iter([REQUEST]), timeout=30)
    assert "botmaker.container.v1.ContainerManager" in names(response)


def test_reflection_over_tcp_carries_the_aio_channels_token(target: str, token_file: Path) -> None:
    token = token_file.read_text().strip()

    async def reflect() -> reflection_pb2.ServerReflectionResponse:
        async with connect_aio(target, token=token) as channel:
            call = ServerReflectionStub(channel).ServerReflectionInfo(iter([REQUEST]), timeout=30)
            (response,) = [response async for response in call]
            return response

    assert "botmaker.container.v1.ContainerManager" in names(asyncio.run(reflect()))
