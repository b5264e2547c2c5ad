"""The specification of a bot's service on a swarm. No other module decides what a service looks like.

What a swarm cannot keep of a configuration is refused, unless the operator accepts that it is weaker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from container_manager.backends.bot_container import (
    LABEL_BOT_ID,
    LABEL_MANAGED,
    LOG_OPTIONS,
    bot_labels,
    environment,
    health_check_body,
)
from container_manager.backends.swarm.records import LABEL_IMAGE, LABEL_PHASE, Phase
from container_manager.errors import FieldViolation, InvalidConfigError, NotSupportedByBackendError
from container_manager.model import ContainerConfig, PortBinding, container_name

Json = dict[str, Any]

BACKEND = "swarm"
MOST_BYTES = 600 * 1024
"""Of a bot's specification without secrets. A swarm refuses changes above 1.5 MiB (``MaxTransactionBytes`` of
swarmkit), and an update has the old specification and the new one. What is left of the half is for 500 secrets and for
records."""
RESTART_DELAY_SECONDS = 5
"""The pause before a bot that has ended is restarted. A start that fails is withdrawn within this time."""
_SECOND_NS = 1_000_000_000
_BRACES, _ESCAPED_BRACES = "{{", '{{"{{"}}'
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - what a swarm does, and not what this service listens on


class Weaker(Enum):
    """What a swarm does not keep as one engine does, by the names under which the operator accepts it."""

    HOST_ADDRESS = "host-address"
    """Ports are published on every address of the node."""
    SWAP = "swap"
    """A memory limit leaves as much swap again."""
    NO_NEW_PRIVILEGES = "no-new-privileges"
    """A node whose engine is older than 25.0 lets a bot's processes gain privileges, unless its daemon forbids it."""
    GRACE_PERIOD = "grace-period"
    """A stop has the grace period of the container, whatever the caller gives."""


@dataclass(frozen=True)
class Placement:
    """Where a bot may run, and its state."""

    constraints: Sequence[str] = ()
    """In the swarm's words, such as ``node.id==…``."""
    mounts: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def service_body(
    bot_id: str,
    config: ContainerConfig,
    *,
    image: str,
    requested_image: str,
    request_id: str,
    create_id: str,
    stop_seconds: int,
    placement: Placement,
    secrets: Sequence[Mapping[str, Any]],
) -> Json:
    """The body of ``POST /services/create`` for a bot that does not run yet (Docker Engine API 1.41 and later).

    ``image``: with its digest; ``requested_image``: as it was asked for.
    """
    container: Json = {
        "Image": image,
        "Hostname": config.hostname or bot_id,
        "Env": [escaped(variable) for variable in environment(bot_id, config)],
        # On the node: the bot's container is found by them, also by hand.
        "Labels": {**config.labels, LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id},
        "Init": True,
        "CapabilityDrop": ["ALL"],
        # From API 1.44 on; earlier ones ignore it.
        "Privileges": {"NoNewPrivileges": True},
        "StopGracePeriod": stop_seconds * _SECOND_NS,
        "Hosts": [f"{address} {name}" for name, address in config.extra_hosts.items()],
        "Mounts": list(placement.mounts),
        "Secrets": list(secrets),
    }
    if config.command:
        container["Args"] = list(config.command)
    if config.health_check is not None:
        container["Healthcheck"] = health_check_body(config.health_check)
    labels = bot_labels(bot_id, config, request_id, create_id)
    return {
        "Name": container_name(bot_id),
        "Labels": {**labels, LABEL_IMAGE: requested_image, LABEL_PHASE: Phase.CREATED.value},
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": _limits(config)},
            "RestartPolicy": {"Condition": "any", "Delay": RESTART_DELAY_SECONDS * _SECOND_NS, "MaxAttempts": 0},
            "Placement": {"Constraints": list(placement.constraints)},
            "Networks": [{"Target": config.network or "bridge"}],
            "LogDriver": {"Name": "json-file", "Options": LOG_OPTIONS},
        },
        "Mode": {"Replicated": {"Replicas": 0}},
        # The new container never runs beside the old one.
        "UpdateConfig": {"Parallelism": 1, "Order": "stop-first", "FailureAction": "continue"},
        "EndpointSpec": {"Mode": "dnsrr", "Ports": [_port(port) for port in config.ports]},
    }


def bare_body(bot_id: str, config: ContainerConfig, placement: Placement | None = None) -> Json:
    """What a configuration makes of a service, without what each create decides anew."""
    return service_body(
        bot_id,
        config,
        image="",
        requested_image="",
        request_id="",
        create_id="",
        stop_seconds=0,
        placement=placement or Placement(),
        secrets=(),
    )


def escaped(variable: str) -> str:
    """A variable, ``NAME=value``, whose value a swarm leaves as it is: to a swarm, it is a template of Go's.

    So a value could take the leader's time and memory without end, or tell what a bot is not to know.
    """
    name, sign, value = variable.partition("=")
    return name + sign + value.replace(_BRACES, _ESCAPED_BRACES)


def unescaped(variable: str) -> str:
    """The inverse of :func:`escaped`."""
    return variable.replace(_ESCAPED_BRACES, _BRACES)


def grace_of(template: Json) -> int:
    """The grace period of a task's container, in seconds."""
    return round((template["ContainerSpec"].get("StopGracePeriod") or 0) / _SECOND_NS)


def refuse_weaker(config: ContainerConfig, accepted: Collection[Weaker]) -> None:
    """Raise :class:`NotSupportedByBackendError` for the first field that a swarm cannot keep."""
    if config.network == "none":
        raise not_supported("config.network", "a swarm cannot run a bot without a network")
    for index, port in enumerate(config.ports):
        if port.host_ip not in _EVERY_ADDRESS and Weaker.HOST_ADDRESS not in accepted:
            raise not_supported(
                f"config.ports[{index}].host_ip",
                "a swarm publishes a port on every address of the bot's node; ask for 0.0.0.0, "
                "or have the operator accept it with --allow-weaker host-address",
            )
    if config.resources.memory_bytes and Weaker.SWAP not in accepted:
        raise not_supported(
            "config.resources.memory_bytes",
            "a swarm limits memory but not the swap beside it; the operator accepts that with --allow-weaker swap",
        )


def refuse_oversized(bot_id: str, config: ContainerConfig) -> None:
    """Raise :class:`InvalidConfigError` with the largest field for a bot that the swarm could create but not start."""
    size = _size(bare_body(bot_id, config))
    if size > MOST_BYTES:
        sizes = {name: _size(value) for name, value in asdict(config).items()}
        raise InvalidConfigError(
            FieldViolation(
                f"config.{max(sizes, key=sizes.__getitem__)}",
                f"is the largest field of a configuration of {size} bytes, and a swarm keeps {MOST_BYTES}",
            )
        )


def not_supported(field_name: str, message: str) -> NotSupportedByBackendError:
    """The error for a field of a request."""
    return NotSupportedByBackendError(message, backend=BACKEND, field=field_name)


def with_secrets(spec: Json, secrets: list[Json]) -> Json:
    """The specification with these secrets. A running service gets a new container when they differ."""
    template = spec["TaskTemplate"]
    container = {**template["ContainerSpec"], "Secrets": secrets}
    return {**spec, "TaskTemplate": {**template, "ContainerSpec": container}}


def _limits(config: ContainerConfig) -> Json:
    limits = config.resources
    set_limits = {"MemoryBytes": limits.memory_bytes, "NanoCPUs": limits.nano_cpus, "Pids": limits.pids_limit}
    return {name: value for name, value in set_limits.items() if value}


def _size(value: object) -> int:
    """About as many bytes as the swarm's own form of a document has: its texts, with a tag and a length each."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass")) + 4
    if isinstance(value, Mapping):
        return sum(_size(key) + _size(each) for key, each in value.items())
    if isinstance(value, Sequence):
        return sum(map(_size, value))
    return 8


def _port(port: PortBinding) -> Json:
    return {
        "Protocol": port.protocol.value,
        "TargetPort": port.container_port,
        "PublishedPort": port.host_port,
        "PublishMode": "host",
    }
