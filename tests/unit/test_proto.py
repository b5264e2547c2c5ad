"""The wire contract in the stubs: every name and number is fixed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor

from botmaker.container.v1 import bot_provisioner_pb2, container_observer_pb2
from botmaker.container.v1 import container_manager_pb2 as pb

FILE = pb.DESCRIPTOR
SERVICE = FILE.services_by_name["ContainerManager"]
FieldProto = descriptor_pb2.FieldDescriptorProto
TYPES = {
    FieldProto.TYPE_STRING: "string",
    FieldProto.TYPE_UINT32: "uint32",
    FieldProto.TYPE_INT32: "int32",
    FieldProto.TYPE_INT64: "int64",
    FieldProto.TYPE_BOOL: "bool",
}
UNKNOWN, NO_SIDE_EFFECTS, IDEMPOTENT = 0, 1, 2

RPCS = {
    "CreateContainer": IDEMPOTENT,
    "StartContainer": UNKNOWN,
    "StopContainer": IDEMPOTENT,
    "RestartContainer": UNKNOWN,
    "RemoveContainer": IDEMPOTENT,
    "GetContainerStatus": NO_SIDE_EFFECTS,
    "ListManagedContainers": NO_SIDE_EFFECTS,
}
GRACE = {1: ("bot_id", "string"), 2: ("grace_period", "google.protobuf.Duration")}
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "CreateContainerRequest": {
        1: ("bot_id", "string"),
        2: ("config", "ContainerConfig"),
        3: ("request_id", "string"),
    },
    "ContainerConfig": {
        1: ("image", "string"),
        2: ("ai_provider", "string"),
        3: ("ai_model", "string"),
        4: ("channel_type", "string"),
        5: ("environment", "map<string, string>"),
        6: ("ports", "repeated PortBinding"),
        7: ("network", "string"),
        8: ("extra_hosts", "map<string, string>"),
        9: ("command", "repeated string"),
        10: ("resources", "ResourceLimits"),
        11: ("health_check", "HealthCheck"),
        12: ("hostname", "string"),
        13: ("labels", "map<string, string>"),
    },
    "HealthCheck": {
        1: ("command", "repeated string"),
        2: ("interval", "google.protobuf.Duration"),
        3: ("timeout", "google.protobuf.Duration"),
        4: ("start_period", "google.protobuf.Duration"),
        5: ("retries", "uint32"),
    },
    "PortBinding": {
        1: ("container_port", "uint32"),
        2: ("host_port", "uint32"),
        3: ("host_ip", "string"),
        4: ("protocol", "Protocol"),
    },
    "ResourceLimits": {1: ("memory_bytes", "int64"), 2: ("nano_cpus", "int64"), 3: ("pids_limit", "int64")},
    "CreateContainerResponse": {1: ("container_id", "string")},
    "StartContainerRequest": {1: ("bot_id", "string")},
    "StartContainerResponse": {},
    "StopContainerRequest": GRACE,
    "StopContainerResponse": {},
    "RestartContainerRequest": GRACE,
    "RestartContainerResponse": {},
    "RemoveContainerRequest": GRACE,
    "RemoveContainerResponse": {},
    "GetContainerStatusRequest": {1: ("bot_id", "string")},
    "GetContainerStatusResponse": {1: ("status", "ContainerStatus")},
    "ListManagedContainersRequest": {
        1: ("states", "repeated ContainerState"),
        2: ("bot_ids", "repeated string"),
        3: ("labels", "map<string, string>"),
    },
    "ListManagedContainersResponse": {1: ("containers", "repeated ContainerStatus")},
    "ContainerStatus": {
        1: ("container_id", "string"),
        2: ("bot_id", "string"),
        3: ("name", "string"),
        4: ("state", "ContainerState"),
        5: ("image", "string"),
        6: ("image_id", "string"),
        7: ("create_time", "google.protobuf.Timestamp"),
        8: ("start_time", "google.protobuf.Timestamp"),
        9: ("finish_time", "google.protobuf.Timestamp"),
        10: ("exit_code", "optional int32"),
        11: ("exit_reason", "ExitReason"),
        12: ("error", "string"),
        13: ("health", "HealthStatus"),
        14: ("restart_count", "uint32"),
        15: ("ports", "repeated PortBinding"),
        16: ("hostname", "string"),
        17: ("labels", "map<string, string>"),
        18: ("last_exit", "LastExit"),
        19: ("node", "string"),
        20: ("node_unreachable", "bool"),
    },
    "LastExit": {
        1: ("exit_code", "int32"),
        2: ("exit_reason", "ExitReason"),
        3: ("finish_time", "google.protobuf.Timestamp"),
    },
}
ENUMS = {
    "Protocol": ("PROTOCOL", ["UNSPECIFIED", "TCP", "UDP", "SCTP"]),
    "ContainerState": (
        "CONTAINER_STATE",
        ["UNSPECIFIED", "CREATED", "RUNNING", "PAUSED", "RESTARTING", "REMOVING", "EXITED", "DEAD"],
    ),
    "ExitReason": ("EXIT_REASON", ["UNSPECIFIED", "COMPLETED", "ERROR", "OOM_KILLED", "KILLED", "START_FAILED"]),
    "HealthStatus": ("HEALTH_STATUS", ["UNSPECIFIED", "STARTING", "HEALTHY", "UNHEALTHY"]),
}


def described(name: str) -> descriptor_pb2.DescriptorProto:
    proto = descriptor_pb2.DescriptorProto()
    FILE.message_types_by_name[name].CopyToProto(proto)
    return proto


def written(field: descriptor_pb2.FieldDescriptorProto, message: descriptor_pb2.DescriptorProto) -> str:
    """A field's type in proto syntax."""
    name = field.type_name.removeprefix(".botmaker.container.v1.").removeprefix(".") or TYPES[field.type]
    for entry in message.nested_type:
        if entry.options.map_entry and name == f"{message.name}.{entry.name}":
            key, value = (written(part, entry) for part in entry.field)
            return f"map<{key}, {value}>"
    if field.label == FieldProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def test_the_file_and_package_are_the_contracts() -> None:
    assert ("botmaker/container/v1/container_manager.proto", "botmaker.container.v1") == (FILE.name, FILE.package)


def test_there_are_exactly_seven_unary_rpcs() -> None:
    assert ["ContainerManager"] == list(FILE.services_by_name)
    assert list(RPCS) == [method.name for method in SERVICE.methods]
    assert not any(method.client_streaming or method.server_streaming for method in SERVICE.methods)


@pytest.mark.parametrize(("name", "level"), RPCS.items())
def test_an_rpc_has_messages_of_its_own_and_its_idempotency_level(name: str, level: int) -> None:
    method = SERVICE.methods_by_name[name]
    assert (f"{name}Request", f"{name}Response") == (method.input_type.name, method.output_type.name)
    assert level == method.GetOptions().idempotency_level


@pytest.mark.parametrize(("name", "fields"), MESSAGES.items())
def test_a_messages_fields_are_the_contracts(name: str, fields: dict[int, tuple[str, str]]) -> None:
    """A status may have more fields: no request contains it, and `buf breaking` protects added fields."""
    message = described(name)
    found = {field.number: (field.name, written(field, message)) for field in message.field}
    if name == "ContainerStatus":
        found = {number: field for number, field in found.items() if number in fields}
    assert fields == found


def test_there_are_no_further_messages_and_enums() -> None:
    assert set(MESSAGES) == set(FILE.message_types_by_name)
    assert set(ENUMS) == set(FILE.enum_types_by_name)


@pytest.mark.parametrize(("name", "prefix", "values"), [(name, *rest) for name, rest in ENUMS.items()])
def test_an_enums_values_are_the_contracts(name: str, prefix: str, values: list[str]) -> None:
    found = FILE.enum_types_by_name[name].values_by_name
    expected = {f"{prefix}_{value}": number for number, value in enumerate(values)}
    assert expected == {value: descriptor.number for value, descriptor in found.items()}


def fields_of(message: Descriptor) -> Iterator[str]:
    """The fields of a message and of those in it, by their full names."""
    for field in message.fields:
        yield field.full_name.removeprefix("botmaker.container.v1.")
        if field.message_type is not None and field.message_type.file.package == FILE.package:
            yield from fields_of(field.message_type)


def test_no_response_of_the_provisioner_has_a_field_for_a_content() -> None:
    methods = bot_provisioner_pb2.DESCRIPTOR.services_by_name["BotProvisioner"].methods
    returned = {name for method in methods for name in fields_of(method.output_type)}
    assert {
        "ListSecretsResponse.secrets",
        "SecretInfo.name",
        "SecretInfo.size_bytes",
        "SecretInfo.time",
        "ReloadSecretsResponse.outcome",
        "ReloadSecretsResponse.confirmed",
    } == returned


def test_every_rpc_of_the_observer_is_without_side_effects() -> None:
    methods = container_observer_pb2.DESCRIPTOR.services_by_name["ContainerObserver"].methods
    assert {NO_SIDE_EFFECTS} == {method.GetOptions().idempotency_level for method in methods}
