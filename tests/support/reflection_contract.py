"""Reflection and health as every server has them, on whatever backend, as one suite.

    class TestReflection(ReflectionContract):
        ...

A backend's test module inherits the class. Its fixture ``target`` is the address of a server with that backend.
"""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_observer_pb2
from container_manager_client import connect
from tests.support.waiting import wait_until

SERVICE = "botmaker.container.v1.ContainerManager"
OBSERVER = "botmaker.container.v1.ContainerObserver"
PROVISIONER = "botmaker.container.v1.BotProvisioner"
MAINTAINER = "botmaker.container.v1.ContainerMaintainer"


class ReflectionContract:
    """The services, their methods, and their health."""

    def test_conformance_17_reflection_lists_all_services(self, target: str) -> None:
        response = reflect(target, reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in response.list_services_response.service}
        assert {SERVICE, OBSERVER, PROVISIONER, MAINTAINER, "grpc.health.v1.Health"} <= names

    def test_conformance_17_the_reflected_descriptor_has_exactly_seven_unary_rpcs(self, target: str) -> None:
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

    def test_the_observers_reflected_descriptor_has_the_methods_of_the_contract(self, target: str) -> None:
        contract = container_observer_pb2.DESCRIPTOR.services_by_name["ContainerObserver"].methods
        expected = [(method.name, method.server_streaming, method.client_streaming) for method in contract]
        assert {"WatchContainers", "StreamLogs", "WatchStats"} <= {name for name, *_ in expected}
        assert expected == [
            (method.name, method.server_streaming, method.client_streaming)
            for method in reflected_methods(target, OBSERVER)
        ]

    def test_conformance_17_health_answers_for_the_server_and_for_each_service(self, target: str) -> None:
        with connect(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)

            def status(name: str) -> int:
                return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status

            for name in ("", SERVICE, OBSERVER, PROVISIONER, MAINTAINER):
                wait_until(
                    lambda name=name: status(name) == health_pb2.HealthCheckResponse.SERVING, f"health of {name!r}"
                )
            with pytest.raises(grpc.RpcError) as caught:
                status("no.such.Service")
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def reflect(target: str, request: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionResponse:
    """One answer of the reflection service."""
    with connect(target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        return next(iter(stub.ServerReflectionInfo(iter([request]), timeout=60)))


def reflected_methods(target: str, service: str) -> list[descriptor_pb2.MethodDescriptorProto]:
    """The service's methods as reflection describes them."""
    response = reflect(target, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(each)
        for each in response.file_descriptor_response.file_descriptor_proto
    ]
    name = service.rpartition(".")[2]
    return [method for file in files for each in file.service if each.name == name for method in each.method]
