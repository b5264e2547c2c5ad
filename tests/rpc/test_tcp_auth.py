"""TCP listeners: loopback alone, and a token on every call but health checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.rpc.reflection import V1_FILE
from container_manager_client import ErrorInfo, connect, connect_aio, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the server makes its token."""
    return tmp_path / "token"


@pytest.fixture
def target(serve_on: ServeOn, token_file: Path) -> Iterator[str]:
    """A TCP listener."""
    with serve_on("tcp://127.0.0.1:0", token_file=token_file) as addresses:
        yield addresses[0]


@pytest.mark.parametrize("token", [None, "", "wrong", "Bearer"])
def test_no_or_a_wrong_token_is_unauthenticated(target: str, token: str | None) -> None:
    with connect(target, token=token) as channel, fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        Calls(ContainerManagerStub(channel)).list()


def test_the_token_of_the_file_is_accepted(target: str, token_file: Path) -> None:
    assert token_file.stat().st_mode & 0o777 == 0o600
    with connect(target, token=token_file.read_text().strip()) as channel:
        assert Calls(ContainerManagerStub(channel)).list() == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_matched_in_any_case(target: str, token_file: Path, scheme: str) -> None:
    metadata = (("authorization", f"{scheme} {token_file.read_text().strip()}"),)
    with grpc.insecure_channel(target.removeprefix("tcp://")) as channel:
        request = pb.ListManagedContainersRequest()
        assert [] == list(ContainerManagerStub(channel).ListManagedContainers(request, metadata=metadata).containers)


@pytest.mark.parametrize("scheme", ["Basic", "", "Bearers"])
def test_the_token_of_another_scheme_is_unauthenticated(target: str, token_file: Path, scheme: str) -> None:
    metadata = (("authorization", f"{scheme} {token_file.read_text().strip()}"),)
    channel = grpc.insecure_channel(target.removeprefix("tcp://"))
    with channel, fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest(), metadata=metadata)


def test_streams_need_the_token_too(target: str, token_file: Path) -> None:
    request = observer_pb.WatchContainersRequest()
    with connect(target) as channel, fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        next(ContainerObserverStub(channel).WatchContainers(request))
    with connect(target, token=token_file.read_text().strip()) as channel:
        assert next(ContainerObserverStub(channel).WatchContainers(request)).HasField("synced")


def test_the_aio_clients_streams_carry_the_token(target: str, token_file: Path) -> None:

    async def first(token: str | None) -> str:
        async with connect_aio(target, token=token) as channel:
            call = ContainerObserverStub(channel).WatchContainers(observer_pb.WatchContainersRequest())
            try:
                async for message in call:
                    return str(message.WhichOneof("event"))
            except grpc.RpcError as exc:
                return error_info(exc).reason
        return "nothing"

    assert "UNAUTHENTICATED" == asyncio.run(first(None))
    assert "synced" == asyncio.run(first(token_file.read_text().strip()))


def test_two_tokens_are_unauthenticated(target: str, token_file: Path) -> None:
    token = token_file.read_text().strip()
    metadata = (("authorization", f"Bearer {token}"), ("authorization", "Bearer other"))
    with grpc.insecure_channel(target.removeprefix("tcp://")) as channel:
        stub = ContainerManagerStub(channel)
        with fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
            stub.ListManagedContainers(pb.ListManagedContainersRequest(), metadata=metadata)


def methods(*services: ServiceDescriptor) -> list[str]:
    """Their methods as they are called."""
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


WITHOUT_TOKEN = methods(*health_pb2.DESCRIPTOR.services_by_name.values())
WITH_TOKEN = [
    *methods(*pb.DESCRIPTOR.services_by_name.values()),
    *methods(*observer_pb.DESCRIPTOR.services_by_name.values()),
    *methods(*V1_FILE.services_by_name.values(), *reflection_pb2.DESCRIPTOR.services_by_name.values()),
    "/no.such.Service/Method",
    "/grpc.health.v1.Health/Nope",
    "/grpc.health.v1.Healthy/Check",
    "/grpc.health.v1.Health",
    "/",
]


def heard(target: str, method: str, token: str | None) -> ErrorInfo | None:
    """The error of a call with an empty message, of which one answer is waited for; ``None`` when it is answered."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(target.removeprefix("tcp://")) as channel:
        call = channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=10)
        try:
            next(call)
        except grpc.RpcError as exc:
            return error_info(exc)
        except StopIteration:
            return None
        finally:
            call.cancel()
    return None


@pytest.mark.parametrize("method", WITH_TOKEN)
def test_every_method_but_those_of_health_needs_the_token(
    target: str, token_file: Path, memory: MemoryBackend, method: str
) -> None:
    memory.add("00000000-0000-4000-8000-000000000000")  # there is something to be told of
    for wrong in (None, "0" * 43):
        refusal = heard(target, method, wrong)
        assert refusal is not None
        assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == (refusal.code.name, refusal.reason)
    accepted = heard(target, method, token_file.read_text().strip())
    assert accepted is None or accepted.code is not grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", WITHOUT_TOKEN)
def test_health_needs_no_token(target: str, method: str) -> None:
    answer = heard(target, method, None)
    # Newer definitions of health have a List, which the servicer may not have.
    assert answer is None or answer.code is grpc.StatusCode.UNIMPLEMENTED
    assert method.endswith("/List") or answer is None


def test_insecure_no_auth_serves_anyone_and_says_so(serve_on: ServeOn, caplog: pytest.LogCaptureFixture) -> None:
    with serve_on("tcp://127.0.0.1:0", insecure_no_auth=True) as addresses, connect(addresses[0]) as channel:
        assert Calls(ContainerManagerStub(channel)).list() == []
    assert "without authentication" in caplog.text


def test_the_unix_socket_needs_no_token(serve_on: ServeOn, session_dir: Path) -> None:
    unix = f"unix://{session_dir}/both/s.sock"
    with (
        serve_on("tcp://127.0.0.1:0", unix, token_file=session_dir / "token") as addresses,
        connect(addresses[1]) as channel,
    ):
        assert Calls(ContainerManagerStub(channel)).list() == []


def test_the_aio_client_with_a_token(target: str, token_file: Path) -> None:
    async def call(token: str | None) -> pb.ListManagedContainersResponse:
        async with connect_aio(target, token=token) as channel:
            return await ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest())

    assert pb.ListManagedContainersResponse() == asyncio.run(call(token_file.read_text().strip()))
    with fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        asyncio.run(call(None))
