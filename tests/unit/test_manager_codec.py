"""Conversions between proto messages and domain values."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.errors import ContainerManagerError, InvalidConfigError
from container_manager.model import (
    ContainerConfig,
    ContainerFilter,
    ContainerState,
    ContainerStatus,
    ExitReason,
    HealthCheck,
    HealthStatus,
    Labels,
    LastExit,
    PortBinding,
    Protocol,
    ResourceLimits,
)
from container_manager.rpc.manager_codec import (
    config_from_proto,
    filter_from_proto,
    grace_seconds_from_proto,
    states_from_proto,
    status_to_proto,
)

LEAST = ContainerStatus("c1", "", "n", None, "", "", None)


def test_an_empty_config_is_all_defaults() -> None:
    assert ContainerConfig() == config_from_proto(pb.ContainerConfig())


def test_a_full_config_arrives_whole() -> None:
    message = pb.ContainerConfig(
        image="a:1",
        ai_provider="anthropic",
        ai_model="claude",
        channel_type="telegram",
        environment={"TZ": "UTC"},
        ports=[
            pb.PortBinding(container_port=80),
            pb.PortBinding(container_port=53, host_port=54, host_ip="::1", protocol=pb.PROTOCOL_UDP),
            pb.PortBinding(container_port=2**32 - 1, host_port=70_000, protocol=pb.PROTOCOL_SCTP),
        ],
        network="bots",
        extra_hosts={"db": "10.0.0.1"},
        command=["node", ""],
        resources=pb.ResourceLimits(memory_bytes=2**62, nano_cpus=-1, pids_limit=3),
        health_check=pb.HealthCheck(
            command=["node", "health.js"],
            interval=Duration(seconds=30),
            timeout=Duration(nanos=250_000_000),
            start_period=Duration(seconds=-1),
            retries=2**32 - 1,
        ),
        hostname="anna",
        labels={"team": "blue"},
    )
    expected = ContainerConfig(
        image="a:1",
        ai_provider="anthropic",
        ai_model="claude",
        channel_type="telegram",
        environment={"TZ": "UTC"},
        ports=(
            PortBinding(80),
            PortBinding(53, 54, "::1", Protocol.UDP),
            PortBinding(2**32 - 1, 70_000, "", Protocol.SCTP),
        ),
        network="bots",
        extra_hosts={"db": "10.0.0.1"},
        command=("node", ""),
        resources=ResourceLimits(2**62, -1, 3),
        health_check=HealthCheck(("node", "health.js"), 30, 0.25, -1, 2**32 - 1),
        hostname="anna",
        labels={"team": "blue"},
    )
    assert expected == config_from_proto(pb.ContainerConfig.FromString(message.SerializeToString()))


@pytest.mark.parametrize(
    ("number", "protocol"), [(0, Protocol.TCP), (1, Protocol.TCP), (2, Protocol.UDP), (3, Protocol.SCTP)]
)
def test_an_unspecified_protocol_is_tcp(number: int, protocol: Protocol) -> None:
    message = pb.ContainerConfig(ports=[pb.PortBinding(container_port=80, protocol=number)])
    assert protocol is config_from_proto(message).ports[0].protocol


@pytest.mark.parametrize("number", [4, 99, -1])
def test_an_unknown_protocol_number_is_refused_with_its_field(number: int) -> None:
    message = pb.ContainerConfig(ports=[pb.PortBinding(), pb.PortBinding(protocol=number)])
    with pytest.raises(InvalidConfigError) as caught:
        config_from_proto(message)
    assert ["config.ports[1].protocol"] == [violation.field for violation in caught.value.violations]


@pytest.mark.parametrize("cls", [pb.StopContainerRequest, pb.RestartContainerRequest, pb.RemoveContainerRequest])
@pytest.mark.parametrize(
    ("grace", "seconds"),
    [
        (None, None),
        (Duration(), 0),
        (Duration(seconds=90), 90),
        (Duration(seconds=1, nanos=500_000_000), 2),
        (Duration(nanos=1), 1),
    ],
)
def test_a_grace_is_rounded_up_to_whole_seconds_and_an_absent_one_is_none(
    cls: type, grace: Duration | None, seconds: int | None
) -> None:
    assert seconds == grace_seconds_from_proto(cls(bot_id="b", grace_period=grace))


@pytest.mark.parametrize("grace", [Duration(nanos=-1), Duration(seconds=-5), Duration(seconds=86_400, nanos=1)])
def test_a_negative_or_endless_grace_is_refused(grace: Duration) -> None:
    with pytest.raises(InvalidConfigError, match="0 to 86400 seconds"):
        grace_seconds_from_proto(pb.StopContainerRequest(grace_period=grace))


def test_states_are_those_asked_for() -> None:
    request = pb.ListManagedContainersRequest(states=[pb.CONTAINER_STATE_EXITED, pb.CONTAINER_STATE_DEAD] * 2)
    assert {ContainerState.EXITED, ContainerState.DEAD} == states_from_proto(request)
    assert frozenset() == states_from_proto(pb.ListManagedContainersRequest())


@pytest.mark.parametrize("number", [0, 8, 99, -1])
def test_a_number_that_is_no_state_is_refused_with_its_field(number: int) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        states_from_proto(pb.ListManagedContainersRequest(states=[1, number]))
    assert ["states[1]"] == [violation.field for violation in caught.value.violations]


def test_a_full_status_leaves_whole() -> None:
    status = ContainerStatus(
        container_id="c1",
        bot_id="b1",
        name="botmaker-b1",
        state=ContainerState.EXITED,
        image="a:1",
        image_id="sha256:00",
        create_time_ns=1_795_168_800_123_456_789,
        start_time_ns=1_795_168_805_000_000_001,
        finish_time_ns=1_795_168_860_999_999_999,
        exit_code=137,
        exit_reason=ExitReason.OOM_KILLED,
        error="e",
        health=HealthStatus.UNHEALTHY,
        restart_count=3,
        ports=(PortBinding(80, 8080, "127.0.0.1"), PortBinding(53, 5353, "::", Protocol.UDP)),
    )
    message = status_to_proto(status)
    assert ("c1", "b1", "botmaker-b1", "a:1", "sha256:00", "e", 3) == (
        message.container_id,
        message.bot_id,
        message.name,
        message.image,
        message.image_id,
        message.error,
        message.restart_count,
    )
    assert (pb.CONTAINER_STATE_EXITED, pb.EXIT_REASON_OOM_KILLED, pb.HEALTH_STATUS_UNHEALTHY, 137) == (
        message.state,
        message.exit_reason,
        message.health,
        message.exit_code,
    )
    times = (message.create_time, message.start_time, message.finish_time)
    assert [
        (1_795_168_800, 123_456_789),
        (1_795_168_805, 1),
        (1_795_168_860, 999_999_999),
    ] == [(time.seconds, time.nanos) for time in times]
    assert [(80, 8080, "127.0.0.1", pb.PROTOCOL_TCP), (53, 5353, "::", pb.PROTOCOL_UDP)] == [
        (port.container_port, port.host_port, port.host_ip, port.protocol) for port in message.ports
    ]


LAST_EXIT = LastExit(137, ExitReason.OOM_KILLED, 1_795_168_860_999_999_999)
VALUES = {bool: True, str: "x", int: 7, LastExit: LAST_EXIT}
TUPLES = {PortBinding: (PortBinding(80, 8080),), Labels: (("team", "blue"),)}


def value_of(annotation: Any) -> object:
    """A value of the field's type that is not the default."""
    if get_origin(annotation) is tuple:
        return TUPLES[annotation if annotation in TUPLES else get_args(annotation)[0]]
    kinds = [kind for kind in get_args(annotation) or (annotation,) if isinstance(kind, type)]
    kind = get_origin(annotation) or kinds[0]
    kind = kinds[0] if kind is UnionType else kind
    return next(iter(kind)) if issubclass(kind, Enum) else VALUES[kind]


def test_every_field_of_a_status_leaves() -> None:
    """Covers every field of the contract and of the model, but those that callers have no use for."""
    status = ContainerStatus(**{name: value_of(kind) for name, kind in get_type_hints(ContainerStatus).items()})
    set_fields = {field.name for field, _ in status_to_proto(status).ListFields()}
    assert {field.name for field in pb.ContainerStatus.DESCRIPTOR.fields} == set_fields
    assert {field.name.removesuffix("_ns") for field in fields(ContainerStatus)} == {
        *set_fields,
        "action_set",
        "own_network",
        "request_id",
    }


def test_a_health_check_that_is_there_but_empty_is_not_an_absent_one() -> None:
    message = pb.ContainerConfig(health_check=pb.HealthCheck())
    assert HealthCheck(()) == config_from_proto(message).health_check


def test_a_filter_has_states_bots_and_labels() -> None:
    bot_id = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"
    message = pb.ListManagedContainersRequest(states=[2], bot_ids=[bot_id, bot_id], labels={"team": "blue"})
    wanted = ContainerFilter(frozenset({ContainerState.RUNNING}), frozenset({bot_id}), frozenset({("team", "blue")}))
    assert wanted == filter_from_proto(message)
    assert ContainerFilter() == filter_from_proto(pb.ListManagedContainersRequest())


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ListManagedContainersRequest(bot_ids=["nobody"]), "INVALID_BOT_ID"),
        (pb.ListManagedContainersRequest(bot_ids=["0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"] * 10_001), "INVALID_CONFIG"),
        (pb.ListManagedContainersRequest(labels={f"k{n}": "" for n in range(1_001)}), "INVALID_CONFIG"),
    ],
    ids=["no bot id", "too many ids", "too many labels"],
)
def test_a_wrong_filter_is_refused(request_: pb.ListManagedContainersRequest, reason: str) -> None:
    with pytest.raises(ContainerManagerError) as caught:
        filter_from_proto(request_)
    assert reason == caught.value.reason


def test_a_last_exit_leaves_whole_also_with_code_zero() -> None:
    message = status_to_proto(replace(LEAST, last_exit=LAST_EXIT)).last_exit
    assert (137, pb.EXIT_REASON_OOM_KILLED) == (message.exit_code, message.exit_reason)
    assert LAST_EXIT.finish_time_ns == message.finish_time.ToNanoseconds()
    assert not status_to_proto(LEAST).HasField("last_exit")
    clean = status_to_proto(replace(LEAST, last_exit=LastExit(0, ExitReason.COMPLETED, 1)))
    assert pb.EXIT_REASON_COMPLETED == clean.last_exit.exit_reason


def test_what_has_not_happened_is_really_unset() -> None:
    message = status_to_proto(LEAST)
    names = ("create_time", "start_time", "finish_time", "exit_code")
    assert [False] * 4 == [message.HasField(name) for name in names]
    assert {"container_id", "name"} == {field.name for field, _ in message.ListFields()}


def test_an_exit_code_of_zero_is_set() -> None:
    message = status_to_proto(ContainerStatus("c", "", "", ContainerState.EXITED, "", "", None, exit_code=0))
    assert (True, 0) == (message.HasField("exit_code"), message.exit_code)


@pytest.mark.parametrize(
    ("member", "field", "name"),
    [(member, "state", f"CONTAINER_STATE_{member.name}") for member in ContainerState]
    + [(member, "exit_reason", f"EXIT_REASON_{member.name}") for member in ExitReason]
    + [(member, "health", f"HEALTH_STATUS_{member.name}") for member in HealthStatus],
)
def test_every_member_has_its_number(member: object, field: str, name: str) -> None:
    changes = {"state": None, field: member}
    state = changes.pop("state")
    message = status_to_proto(ContainerStatus("c", "", "", state, "", "", None, **changes))  # type: ignore[arg-type]
    assert getattr(pb, name) == getattr(message, field)


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (pb.ContainerState, ContainerState),
        (pb.ExitReason, ExitReason),
        (pb.HealthStatus, HealthStatus),
        (pb.Protocol, Protocol),
    ],
)
def test_the_domain_knows_every_value_of_the_proto(enum: object, members: type) -> None:
    assert len(list(members)) + 1 == len(enum.keys())  # type: ignore[attr-defined]


@pytest.mark.parametrize("field", ["ports", "command", "states"])
def test_too_many_entries_are_refused_before_anything_is_made_of_them(field: str) -> None:
    if field == "states":
        with pytest.raises(InvalidConfigError, match="at most"):
            states_from_proto(pb.ListManagedContainersRequest(states=[pb.CONTAINER_STATE_RUNNING] * 1_001))
    else:
        entry = {"ports": pb.PortBinding(protocol=99), "command": "x"}[field]
        with pytest.raises(InvalidConfigError, match="at most"):
            config_from_proto(pb.ContainerConfig(**{field: [entry] * 1_001}))


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(5, -1), (-1, 1), (0, 2_000_000_000), (1, 2_147_483_647), (-1, 1_000_000_005)]
)
def test_a_duration_that_is_none_is_refused(seconds: int, nanos: int) -> None:
    request = pb.StopContainerRequest(grace_period=Duration(seconds=seconds, nanos=nanos))
    with pytest.raises(InvalidConfigError, match="Duration"):
        grace_seconds_from_proto(request)
