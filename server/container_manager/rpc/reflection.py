"""gRPC reflection in both versions, v1 and v1alpha, which differ in the name of their package only.

grpcio-reflection serves v1alpha. Newer tools ask for v1 first (github.com/grpc/grpc, doc/server-reflection.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_METHOD = "ServerReflectionInfo"


def _v1_file() -> FileDescriptor:
    """The description of v1: that of v1alpha in another package."""
    file = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    renamed = json_format.MessageToJson(file).replace("v1alpha", "v1")
    file = json_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())
    file.name = "grpc/reflection/v1/reflection.proto"
    return descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


V1_FILE = _v1_file()
REFLECTION_SERVICES = (V1_FILE.services_by_name["ServerReflection"].full_name, reflection.SERVICE_NAME)


def add_reflection(
    server: grpc.aio.Server, services: Collection[ServiceDescriptor], hidden: Collection[ServiceDescriptor]
) -> None:
    """Serve both versions. They list ``services`` and themselves.

    They describe whatever the process has a description of, except the services in ``hidden``, and their files unless
    ``services`` need them.
    """
    pool: Any = _SymbolPool(descriptor_pool.Default(), services, hidden)
    names = [service.full_name for service in services]
    servicer = reflection.aio.ReflectionServicer([*names, *REFLECTION_SERVICES], pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    # Messages of both versions have the same wire form.
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    v1 = grpc.method_handlers_generic_handler(REFLECTION_SERVICES[0], {_METHOD: handler})
    server.add_generic_rpc_handlers((v1,))


class _SymbolPool:
    """A descriptor pool that also finds the files of methods, and of enum values by the name of their enum.

    Of hidden services it finds neither the symbols nor the files that no other service needs.
    """

    def __init__(
        self,
        pool: descriptor_pool.DescriptorPool,
        shown: Collection[ServiceDescriptor],
        hidden: Collection[ServiceDescriptor],
    ) -> None:
        self._pool = pool
        self._hidden_services = [service.full_name for service in hidden]
        needed = _with_dependencies(service.file for service in shown)
        self._hidden_files = {service.file.name for service in hidden} - needed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        return self._shown(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        if any(f"{symbol}.".startswith(f"{service}.") for service in self._hidden_services):
            raise KeyError(symbol)
        return self._shown(self._find_file(symbol))

    def _shown(self, file: FileDescriptor) -> FileDescriptor:
        if file.name in self._hidden_files:
            raise KeyError(file.name)
        return file

    def _find_file(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, name = symbol.rpartition(".")
            file = self._pool.FindFileContainingSymbol(parent)
            relative = parent.removeprefix(f"{file.package}.")
            service = file.services_by_name.get(relative)
            if service is not None and name in service.methods_by_name:
                return file
            enum = self._find_enum(parent)
            if enum is not None and name in enum.values_by_name:
                return file
            raise

    def _find_enum(self, name: str) -> Any:
        try:
            return self._pool.FindEnumTypeByName(name)
        except KeyError:
            return None


def _with_dependencies(files: Iterable[FileDescriptor]) -> set[str]:
    """The names of the files, and of all that they import."""
    found: set[str] = set()
    todo = [*files]
    while todo:
        file = todo.pop()
        if file.name not in found:
            found.add(file.name)
            todo += file.dependencies
    return found
