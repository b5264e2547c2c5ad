"""Reflection in both versions: every service, every symbol of the contract, every file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from botmaker.container.v1 import (
    bot_provisioner_pb2,
    container_maintainer_pb2,
    container_manager_pb2,
    container_observer_pb2,
)
from container_manager_client import connect
from tests.rpc.conftest import ServeOn

Request, Response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
Ask = Callable[..., list[Response]]
VERSIONS = ("v1", "v1alpha")
CONTRACT = tuple(
    module.DESCRIPTOR
    for module in (bot_provisioner_pb2, container_maintainer_pb2, container_manager_pb2, container_observer_pb2)
)


def symbols(scope: FileDescriptor | Descriptor) -> Iterator[str]:
    """All names that a file or message declares."""
    is_file = isinstance(scope, FileDescriptor)
    messages = scope.message_types_by_name if is_file else scope.nested_types_by_name
    for message in messages.values():
        yield message.full_name
        yield from (field.full_name for field in message.fields)
        yield from (oneof.full_name for oneof in message.oneofs)
        yield from symbols(message)
    for enum in scope.enum_types_by_name.values():
        yield enum.full_name
        yield from values(enum)
    if is_file:
        for service in scope.services_by_name.values():
            yield service.full_name
            yield from (method.full_name for method in service.methods)


def values(enum: EnumDescriptor) -> Iterator[str]:
    """The values' names: protobuf puts them beside their enum; people write them below it, too."""
    beside = enum.full_name.rpartition(".")[0]
    for value in enum.values:
        yield f"{beside}.{value.name}"
        yield f"{enum.full_name}.{value.name}"


@pytest.fixture(params=VERSIONS)
def ask(serve_on: ServeOn, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """The answers of one version's reflection service to any number of requests."""
    with serve_on(f"unix://{tmp_path}/socket") as (target,), connect(target) as channel:
        method = channel.stream_stream(
            f"/grpc.reflection.{request.param}.ServerReflection/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        yield lambda *requests: list(method(iter(requests), timeout=60))


def test_both_versions_list_every_service(ask: Ask) -> None:
    (response,) = ask(Request(list_services=""))
    assert {
        *(service.full_name for file in CONTRACT for service in file.services_by_name.values()),
        "grpc.health.v1.Health",
        *(f"grpc.reflection.{version}.ServerReflection" for version in VERSIONS),
    } == {service.name for service in response.list_services_response.service}


def test_every_symbol_of_the_contract_is_found_methods_and_enum_values_too(ask: Ask) -> None:
    declared = [(name, file.name) for file in CONTRACT for name in symbols(file)]
    responses = ask(*(Request(file_containing_symbol=name) for name, _ in declared))
    assert declared == [(response.original_request.file_containing_symbol, found(response)) for response in responses]


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        ".",
        "no.such.Symbol",
        "botmaker.container.v1.ContainerManager.NoSuchMethod",
        "botmaker.container.v1.ContainerState.NO_SUCH_VALUE",
        "botmaker.container.v1.CreateContainer",
    ],
)
def test_a_symbol_that_does_not_exist_is_not_found(ask: Ask, symbol: str) -> None:
    (response,) = ask(Request(file_containing_symbol=symbol))
    assert grpc.StatusCode.NOT_FOUND.value[0] == response.error_response.error_code


def test_every_file_is_served(ask: Ask) -> None:
    """Also the reflection service's own, and those of the details that errors carry."""
    details = (status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)
    names = [file.name for file in (*CONTRACT, *details, health_pb2.DESCRIPTOR)]
    names += ["grpc/reflection/v1/reflection.proto", reflection_pb2.DESCRIPTOR.name]
    names += [dependency.name for file in CONTRACT for dependency in file.dependencies]
    assert names == [found(response) for response in ask(*(Request(file_by_filename=name) for name in names))]


def found(response: Response) -> str:
    """The name of the first file of the answer."""
    files = response.file_descriptor_response.file_descriptor_proto
    return descriptor_pb2.FileDescriptorProto.FromString(files[0]).name if files else str(response)
