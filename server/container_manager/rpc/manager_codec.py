"""Between the proto messages and the domain's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.errors import FieldViolation, InvalidConfigError
from container_manager.model import (
    ContainerConfig,
    ContainerFilter,
    ContainerState,
    ContainerStatus,
    ExitReason,
    HealthCheck,
    HealthStatus,
    LastExit,
    PortBinding,
    Protocol,
    ResourceLimits,
)
from container_manager.validation import check_bot_ids, check_config_counts, check_counts, check_grace_seconds

_NANOS = 1_000_000_000
_LONGEST_SECONDS = 315_576_000_000

_PROTOCOLS = {
    pb.PROTOCOL_UNSPECIFIED: Protocol.TCP,
    pb.PROTOCOL_TCP: Protocol.TCP,
    pb.PROTOCOL_UDP: Protocol.UDP,
    pb.PROTOCOL_SCTP: Protocol.SCTP,
}
# A proto enum's value is named after the domain's, with the proto enum's prefix.
_PROTOCOL_NAMES = {member: f"PROTOCOL_{member.name}" for member in Protocol}
_STATE_NAMES = {member: f"CONTAINER_STATE_{member.name}" for member in ContainerState}
_STATES = {pb.ContainerState.Value(name): member for member, name in _STATE_NAMES.items()}
_EXIT_REASON_NAMES = {member: f"EXIT_REASON_{member.name}" for member in ExitReason}
_HEALTH_NAMES = {member: f"HEALTH_STATUS_{member.name}" for member in HealthStatus}


def config_from_proto(message: pb.ContainerConfig) -> ContainerConfig:
    """The domain's config. Raises :class:`InvalidConfigError` for an unknown enum number and for too many entries."""
    check_config_counts(message)
    return ContainerConfig(
        image=message.image,
        ai_provider=message.ai_provider,
        ai_model=message.ai_model,
        channel_type=message.channel_type,
        # A map of the wire has no order; in one and the same, equal requests make equal containers.
        environment=dict(sorted(message.environment.items())),
        ports=tuple(_port_from_proto(index, port) for index, port in enumerate(message.ports)),
        network=message.network,
        extra_hosts=dict(message.extra_hosts),
        command=tuple(message.command),
        resources=ResourceLimits(
            memory_bytes=message.resources.memory_bytes,
            nano_cpus=message.resources.nano_cpus,
            pids_limit=message.resources.pids_limit,
        ),
        health_check=_health_check(message.health_check) if message.HasField("health_check") else None,
        hostname=message.hostname,
        labels=dict(message.labels),
    )


def config_to_proto(config: ContainerConfig) -> pb.ContainerConfig:
    """The wire form of a config, the inverse of :func:`config_from_proto`; limits that are all 0 stay unset."""
    limits, check = config.resources, config.health_check
    return pb.ContainerConfig(
        image=config.image,
        ai_provider=config.ai_provider,
        ai_model=config.ai_model,
        channel_type=config.channel_type,
        environment=dict(config.environment),
        ports=[_port_to_proto(port) for port in config.ports],
        network=config.network,
        extra_hosts=dict(config.extra_hosts),
        command=config.command,
        resources=None
        if limits == ResourceLimits()
        else pb.ResourceLimits(
            memory_bytes=limits.memory_bytes, nano_cpus=limits.nano_cpus, pids_limit=limits.pids_limit
        ),
        health_check=None if check is None else _health_check_to_proto(check),
        hostname=config.hostname,
        labels=dict(config.labels),
    )


def grace_seconds_from_proto(
    message: pb.StopContainerRequest
    | pb.RestartContainerRequest
    | pb.RemoveContainerRequest
    | maintainer_pb.UpgradeContainerRequest,
) -> int | None:
    """The grace period in whole seconds; ``None`` when the request has none. Raises :class:`InvalidConfigError`."""
    if not message.HasField("grace_period"):
        return None
    return check_grace_seconds(duration_seconds("grace_period", message.grace_period))


def duration_seconds(field: str, duration: Duration) -> float:
    """A duration in seconds. Raises :class:`InvalidConfigError` that names ``field``."""
    # google.protobuf.Duration: at most 10,000 years; nanos are below a second, and of the seconds' sign.
    if (
        abs(duration.seconds) > _LONGEST_SECONDS
        or abs(duration.nanos) >= _NANOS
        or duration.seconds * duration.nanos < 0
    ):
        raise InvalidConfigError(FieldViolation(field, "is not a valid google.protobuf.Duration"))
    return duration.seconds + duration.nanos / 1e9


def filter_from_proto(message: pb.ListManagedContainersRequest) -> ContainerFilter:
    """The containers asked for. Raises :class:`InvalidConfigError` for what is no state, and for too many entries.

    Raises :class:`InvalidBotIdError` for a bot id that is not canonical.
    """
    return ContainerFilter(
        states=states_from_proto(message),
        bot_ids=bot_ids_from_proto(message.bot_ids),
        labels=labels_from_proto(message.labels),
    )


def bot_ids_from_proto(bot_ids: Sequence[str]) -> frozenset[str]:
    """The requested bots; empty: all. Raises :class:`InvalidBotIdError`, :class:`InvalidConfigError`."""
    check_bot_ids(bot_ids)
    return frozenset(bot_ids)


def labels_from_proto(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The labels to filter by. Raises :class:`InvalidConfigError` for too many."""
    check_counts({"labels": len(labels)})
    return frozenset(labels.items())


def states_from_proto(message: pb.ListManagedContainersRequest) -> frozenset[ContainerState]:
    """The states asked for. Raises :class:`InvalidConfigError` for one that is no state."""
    check_counts({"states": len(message.states)})
    for index, value in enumerate(message.states):
        if value not in _STATES:
            raise InvalidConfigError(FieldViolation(f"states[{index}]", f"{value} is not a container state"))
    return frozenset(_STATES[value] for value in message.states)


def status_to_proto(status: ContainerStatus) -> pb.ContainerStatus:
    """The wire form of a status; what is ``None`` stays unset."""
    return pb.ContainerStatus(
        container_id=status.container_id,
        bot_id=status.bot_id,
        name=status.name,
        state=_STATE_NAMES[status.state] if status.state else None,
        image=status.image,
        image_id=status.image_id,
        create_time=_timestamp(status.create_time_ns),
        start_time=_timestamp(status.start_time_ns),
        finish_time=_timestamp(status.finish_time_ns),
        exit_code=status.exit_code,
        exit_reason=_EXIT_REASON_NAMES[status.exit_reason] if status.exit_reason else None,
        error=status.error,
        health=_HEALTH_NAMES[status.health] if status.health else None,
        restart_count=status.restart_count,
        ports=[_port_to_proto(port) for port in status.ports],
        hostname=status.hostname,
        labels=dict(status.labels),
        last_exit=_last_exit_to_proto(status.last_exit) if status.last_exit else None,
        node=status.node,
        node_unreachable=status.node_unreachable,
    )


def _last_exit_to_proto(last_exit: LastExit) -> pb.LastExit:
    return pb.LastExit(
        exit_code=last_exit.exit_code,
        exit_reason=_EXIT_REASON_NAMES[last_exit.exit_reason],
        finish_time=timestamp(last_exit.finish_time_ns),
    )


def _health_check(message: pb.HealthCheck) -> HealthCheck:
    field = "config.health_check"
    return HealthCheck(
        command=tuple(message.command),
        interval_seconds=duration_seconds(f"{field}.interval", message.interval),
        timeout_seconds=duration_seconds(f"{field}.timeout", message.timeout),
        start_period_seconds=duration_seconds(f"{field}.start_period", message.start_period),
        retries=message.retries,
    )


def _health_check_to_proto(check: HealthCheck) -> pb.HealthCheck:
    return pb.HealthCheck(
        command=check.command,
        interval=_duration(check.interval_seconds),
        timeout=_duration(check.timeout_seconds),
        start_period=_duration(check.start_period_seconds),
        retries=check.retries,
    )


def _duration(seconds: float) -> Duration | None:
    if not seconds:
        return None
    whole, nanos = divmod(round(seconds * _NANOS), _NANOS)
    return Duration(seconds=whole, nanos=nanos)


def _port_to_proto(port: PortBinding) -> pb.PortBinding:
    return pb.PortBinding(
        container_port=port.container_port,
        host_port=port.host_port,
        host_ip=port.host_ip,
        protocol=_PROTOCOL_NAMES[port.protocol],
    )


def _port_from_proto(index: int, message: pb.PortBinding) -> PortBinding:
    if message.protocol not in _PROTOCOLS:
        violation = FieldViolation(f"config.ports[{index}].protocol", f"{message.protocol} is not a protocol")
        raise InvalidConfigError(violation)
    return PortBinding(message.container_port, message.host_port, message.host_ip, _PROTOCOLS[message.protocol])


def _timestamp(nanoseconds: int | None) -> Timestamp | None:
    return None if nanoseconds is None else timestamp(nanoseconds)


def timestamp(nanoseconds: int) -> Timestamp:
    """The wire form of nanoseconds since the epoch."""
    seconds, nanos = divmod(nanoseconds, _NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)
