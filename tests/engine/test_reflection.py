"""Conformance 17: reflection, health, and the tools that use them, buf curl and grpcurl."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_observer_pb2
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.waiting import wait_until

SERVICE = "botmaker.container.v1.ContainerManager"
OBSERVER = "botmaker.container.v1.ContainerObserver"
PROVISIONER = "botmaker.container.v1.BotProvisioner"
MAINTAINER = "botmaker.container.v1.ContainerMaintainer"


def reflect(target: str, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
    """One answer of the reflection service."""
    with connect(target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        return next(iter(stub.ServerReflectionInfo(iter([request]), timeout=60)))


def test_conformance_17_reflection_lists_all_services(target: str) -> None:
    response = reflect(target, reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in response.list_services_response.service}
    assert {SERVICE, OBSERVER, PROVISIONER, MAINTAINER, "grpc.health.v1.Health"} <= names


def reflected_methods(target: str, service: str) -> list[descriptor_pb2.MethodDescriptorProto]:
    """The service's methods as reflection describes them."""
    response = reflect(target, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in response.file_descriptor_response.file_descriptor_proto
    ]
    name = service.rpartition(".")[2]
    return [method for file in files for each in file.service if each.name == name for method in each.method]


def test_conformance_17_the_reflected_descriptor_has_exactly_seven_unary_rpcs(target: str) -> None:
    methods = reflected_methods(target, SERVICE)
    assert [
        "CreateContainer",
        "StartContainer",
        "StopContainer",
        "RestartContainer",
        "RemoveContainer",
        "GetContainerStatus",
        "ListManagedContainers",
    ] == [method.name for method in methods]
    assert not any(method.client_streaming or method.server_streaming for method in methods)


def test_the_observers_reflected_descriptor_has_the_methods_of_the_contract(target: str) -> None:
    contract = container_observer_pb2.DESCRIPTOR.services_by_name["ContainerObserver"].methods
    expected = [(method.name, method.server_streaming, method.client_streaming) for method in contract]
    assert {"WatchContainers", "StreamLogs", "WatchStats"} <= {name for name, *_ in expected}
    assert expected == [
        (method.name, method.server_streaming, method.client_streaming)
        for method in reflected_methods(target, OBSERVER)
    ]


def test_conformance_17_health_answers_for_the_server_and_for_each_service(target: str) -> None:
    with connect(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status(name: str) -> int:
            return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status

        for name in ("", SERVICE, OBSERVER, PROVISIONER, MAINTAINER):
            wait_until(lambda name=name: status(name) == health_pb2.HealthCheckResponse.SERVING, f"health of {name!r}")
        with pytest.raises(grpc.RpcError) as caught:
            status("no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def curl(
    target: str, method: str, request: dict[str, object], service: str = SERVICE
) -> subprocess.CompletedProcess[str]:
    """``buf curl`` over the unix socket, with the schema from reflection."""
    buf = shutil.which("buf", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    assert buf is not None, "buf comes with the development requirements"
    socket = target.removeprefix("unix://")
    return subprocess.run(
        [
            *(buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--unix-socket", socket),
            *("--data", json.dumps(request), f"http://localhost/{service}/{method}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_buf_curl_by_reflection_over_the_unix_socket(target: str, calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    created = curl(target, "CreateContainer", {"bot_id": bot_id, "config": {"command": ["sleep", "1000"]}})
    assert created.returncode == 0, created.stderr
    status = calls.status(bot_id)
    assert status is not None
    assert {"containerId": status.container_id} == json.loads(created.stdout)
    shown = json.loads(curl(target, "GetContainerStatus", {"bot_id": bot_id}).stdout)
    assert (bot_id, "CONTAINER_STATE_CREATED") == (shown["status"]["botId"], shown["status"]["state"])
    removed = curl(target, "RemoveContainer", {"bot_id": bot_id, "grace_period": "0s"})
    assert json.loads(removed.stdout) == {}
    assert json.loads(curl(target, "GetContainerStatus", {"bot_id": bot_id}).stdout) == {}


def test_buf_curl_streams_logs(target: str, calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "echo one; echo two >&2; exec sleep 100000")
    bots.wait_for_log(bot_id, b"two")
    done = curl(target, "StreamLogs", {"bot_id": bot_id}, OBSERVER)
    assert done.returncode == 0, done.stderr
    entries = [json.loads(text)["entry"] for text in re.findall(r"\{.*?\}\s*\}", done.stdout, re.DOTALL)]
    assert {("SOURCE_STDOUT", b"one"), ("SOURCE_STDERR", b"two")} == {
        (entry["source"], base64.b64decode(entry["line"])) for entry in entries
    }


@pytest.mark.parametrize("bot_id", ["../../etc/passwd", "7C9E6679-7425-40DE-944B-E07FC1F90AE7", "a\0b", "x" * 10_240])
def test_a_mistaken_bot_id_is_told_in_words(target: str, bot_id: str) -> None:
    answer = curl(target, "StartContainer", {"bot_id": bot_id})
    assert answer.returncode != 0
    assert "must be a UUID in canonical lower-case" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_grpcurl_by_reflection_over_the_unix_socket(target: str) -> None:
    grpcurl = shutil.which("grpcurl")
    if grpcurl is None:
        pytest.skip("grpcurl is not installed")
    socket = target.removeprefix("unix://")
    done = subprocess.run(
        [grpcurl, "-plaintext", "-unix", "-authority", "localhost", socket, "list"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert SERVICE in done.stdout.splitlines()
