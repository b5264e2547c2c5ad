"""Which services a listener serves: the others are refused there, and shown by neither reflection nor health."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager.rpc.server import Server
from container_manager.rpc.services import SERVICES, served_services
from container_manager_client import connect, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import fails_with
from tests.support.memory_backend import MemoryBackend
from tests.support.waiting import wait_until

TOKEN = "t" * 32
TCP = "tcp://127.0.0.1:0"
PACKAGE = "botmaker.container.v1"
FULL = {name: service.full_name for name, service in SERVICES.items()}
DEFAULTS = {"unix": {"manager", "observer", "provisioner", "maintainer"}, "tcp": {"manager", "observer"}}


@pytest.fixture
def served(serve_on: ServeOn, unix: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Channels to a unix and a TCP listener, with the ``--services`` that the test has as its parameter."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    services = tuple(text.replace("UNIX", unix).replace("TCP", TCP) for text in getattr(request, "param", ()))
    with (
        serve_on(unix, TCP, services=services, token_file=token_file) as addresses,
        connect(addresses[0]) as unix_channel,
        connect(addresses[1], token=TOKEN) as tcp_channel,
    ):
        yield {"unix": unix_channel, "tcp": tcp_channel}


def answers(channel: grpc.Channel, service: str) -> str:
    """The reason with which a call of the service is refused; empty if it is answered."""
    method = SERVICES[service].methods[0]
    call = channel.unary_unary(f"/{FULL[service]}/{method.name}")
    with pytest.raises(grpc.RpcError) as caught:
        # No message of any type.
        call(b"\xff", timeout=60)
    info = error_info(caught.value)
    return "" if info.reason == "INVALID_CONFIG" else f"{info.code.name} {info.reason}"


def reflected(channel: grpc.Channel, **request: Any) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    asked = iter([reflection_pb2.ServerReflectionRequest(**request)])
    return next(iter(stub.ServerReflectionInfo(asked, timeout=60, metadata=metadata)))


def listed(channel: grpc.Channel) -> set[str]:
    """Our services that reflection lists."""
    names = {each.name for each in reflected(channel, list_services="").list_services_response.service}
    return {name for name, full in FULL.items() if full in names}


def health(channel: grpc.Channel) -> set[str]:
    """Our services whose health is told."""
    stub = health_pb2_grpc.HealthStub(channel)
    stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=60)
    found = set()
    for name, full in FULL.items():
        try:
            stub.Check(health_pb2.HealthCheckRequest(service=full), timeout=60)
            found.add(name)
        except grpc.RpcError as exc:
            if exc.code() is not grpc.StatusCode.NOT_FOUND:
                raise
    return found


CASES = [
    ((), DEFAULTS),
    (("UNIX=manager",), {**DEFAULTS, "unix": {"manager"}}),
    (("UNIX=observer",), {**DEFAULTS, "unix": {"observer"}}),
    (("TCP=provisioner,manager", "UNIX=provisioner"), {"unix": {"provisioner"}, "tcp": {"manager", "provisioner"}}),
    (("TCP=maintainer",), {**DEFAULTS, "tcp": {"maintainer"}}),
    (("TCP=observer",), {**DEFAULTS, "tcp": {"observer"}}),
]


@pytest.mark.parametrize(("served", "expected"), CASES, indirect=["served"], ids=[" ".join(case[0]) for case in CASES])
def test_a_service_that_the_listener_does_not_serve_is_refused_with_its_reason(
    served: dict[str, grpc.Channel], expected: dict[str, set[str]]
) -> None:
    for listener, channel in served.items():
        refused = {name: answers(channel, name) for name in SERVICES}
        assert {
            name: "" if name in expected[listener] else "PERMISSION_DENIED SERVICE_NOT_ALLOWED" for name in SERVICES
        } == refused
        assert expected[listener] == listed(channel)
        wait_until(lambda channel=channel, listener=listener: expected[listener] == health(channel), "health is known")


@pytest.mark.parametrize("served", [("UNIX=observer", "TCP=manager")], indirect=True)
def test_reflection_describes_no_service_that_is_not_served_and_all_that_the_others_need(
    served: dict[str, grpc.Channel],
) -> None:
    def found(channel: grpc.Channel, **request: Any) -> bool:
        return reflected(channel, **request).HasField("file_descriptor_response")

    for symbol in ("ContainerObserver", "ContainerObserver.StreamLogs", "LogEntry", "ContainerStatus"):
        assert found(served["unix"], file_containing_symbol=f"{PACKAGE}.{symbol}"), symbol
    for symbol in ("ContainerManager", "ContainerManager.StopContainer", "BotProvisioner", "PutSecretsRequest"):
        assert not found(served["unix"], file_containing_symbol=f"{PACKAGE}.{symbol}"), symbol
    for symbol in ("ContainerObserver", "ContainerObserver.StreamLogs", "LogEntry", "BotProvisioner.PutSecrets"):
        assert not found(served["tcp"], file_containing_symbol=f"{PACKAGE}.{symbol}"), symbol
    for name, listeners in {
        "container_manager": {"unix", "tcp"},
        "container_observer": {"unix"},
        "bot_provisioner": set(),
        "container_maintainer": set(),
    }.items():
        shown = {
            which for which in served if found(served[which], file_by_filename=f"botmaker/container/v1/{name}.proto")
        }
        assert listeners == shown, name


def test_a_refusal_comes_before_the_message_is_read(served: dict[str, grpc.Channel]) -> None:
    """The request never ends, and the answer is there."""
    released = []

    def requests() -> Iterator[bytes]:
        while not released:
            yield b"x" * 1024

    call = served["tcp"].stream_unary(f"/{FULL['provisioner']}/PutSecrets")
    with fails_with("PERMISSION_DENIED", "SERVICE_NOT_ALLOWED") as caught:
        call(requests(), timeout=60)
    released.append(True)
    expected = "this listener does not serve BotProvisioner; the server's option --services allows it"
    assert expected == caught[0].message


def test_without_a_token_nobody_hears_what_a_listener_serves(served: dict[str, grpc.Channel]) -> None:
    call = served["tcp"].unary_unary(f"/{FULL['provisioner']}/PutSecrets")
    with fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
        call(b"", timeout=60, metadata=(("authorization", "Bearer wrong"),))


@pytest.mark.parametrize(
    ("services", "problem"),
    [
        (("unix:///other.sock=manager",), "does not listen on unix:///other.sock"),
        (("tcp://127.0.0.1:1=manager",), "does not listen on tcp://127.0.0.1:1"),
        (("UNIX=managers",), "'managers' is no service; there are manager, observer, provisioner, maintainer"),
        (("UNIX=",), "'' is no service"),
        (("UNIX=manager,",), "'' is no service"),
        (("UNIX=manager, observer",), "' observer' is no service"),
        (("UNIX=Manager",), "'Manager' is no service"),
        (("UNIX=manager", "UNIX=observer"), "twice"),
        (("manager",), "is not an address"),
        (("UNIX",), "is not an address"),
        (("",), "is not an address"),
    ],
)
def test_an_unknown_address_or_service_is_refused_at_the_start(
    unix: str, services: tuple[str, ...], problem: str, memory: MemoryBackend, server_config: Any
) -> None:
    config: ServerConfig = server_config(unix, services=tuple(text.replace("UNIX", unix) for text in services))
    with pytest.raises(StartupError, match=re.escape(problem)):
        Server(config, memory.opened)


def test_a_socket_whose_path_has_an_equals_sign_can_be_named(server_config: Any) -> None:
    config = server_config("unix:///a=b/c.sock", services=("unix:///a=b/c.sock=observer",))
    assert [["ContainerObserver"]] == [[each.name for each in found] for found in served_services(config).values()]
