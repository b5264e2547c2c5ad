"""Reads a container's configuration back from the engine: the inverse of :mod:`container_manager.backends.docker.spec`.

The engine merges an image's settings into those of a container and keeps no record of which were the container's own
(moby, ``daemon/commit.go``, ``merge``). So the settings that the image has, by its id, are left out again. Whatever
cannot be told apart then is left out too: a label, a command or a health check that equals the image's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from container_manager.backends.docker.spec import DEFAULT_NETWORK, parse_port_key
from container_manager.backends.docker.status import bot_hostname, own_labels
from container_manager.model import (
    TYPED_VARIABLES,
    VARIABLE_BOT_ID,
    ContainerConfig,
    HealthCheck,
    PortBinding,
    ResourceLimits,
)

Json = dict[str, Any]

_SECOND_NS = 1e9


def config_from_inspect(document: Json, image: Json) -> ContainerConfig:
    """The configuration from ``GET /containers/{id}/json``. ``image``: ``Config`` of the image's inspect document.

    It is complete for a container that the service has made. Of another one, it has what a configuration can express.
    """
    config, host = document["Config"], document["HostConfig"]
    labels, image_labels = config.get("Labels") or {}, image.get("Labels") or {}
    variables = dict(
        name_and_value(item) for item in requested_variables(config.get("Env") or (), image.get("Env") or ())
    )
    variables.pop(VARIABLE_BOT_ID, None)
    typed = {field: variables.pop(name, "") for field, name in TYPED_VARIABLES.items()}
    command = config.get("Cmd") or []
    network = host.get("NetworkMode") or ""
    return ContainerConfig(
        image=config["Image"],
        **typed,
        environment=variables,
        ports=_ports(host.get("PortBindings") or {}),
        network="" if network == DEFAULT_NETWORK else network,
        extra_hosts=dict(_host_and_address(entry) for entry in host.get("ExtraHosts") or ()),
        command=() if command == (image.get("Cmd") or []) else tuple(command),
        resources=ResourceLimits(
            memory_bytes=_limit(host.get("Memory")),
            nano_cpus=_limit(host.get("NanoCpus")),
            pids_limit=_limit(host.get("PidsLimit")),
        ),
        health_check=_health_check(config.get("Healthcheck") or {}, image.get("Healthcheck") or {}),
        hostname=bot_hostname(labels, image_labels, config.get("Hostname")),
        labels=dict(own_labels(labels, image_labels)),
    )


def requested_variables(variables: Sequence[str], image: Sequence[str]) -> Sequence[str]:
    """The variables, as ``NAME=value``, that a create has given to a container with an image of these variables.

    The engine appends to a request's variables those of the image that the request does not set. The shortest request
    that gives the container's is taken: it has a variable that equals the image's as well, unless that could be one
    that the engine has appended.
    """
    for count in range(max(0, len(variables) - len(image)), len(variables) + 1):
        requested = variables[:count]
        if merged_variables(requested, image) == list(variables):
            return requested
    # The container lacks a variable of its image, which no create does.
    return variables


def merged_variables(requested: Sequence[str], image: Sequence[str]) -> list[str]:
    """What the engine makes of a request's variables and of the image's."""
    names = {name_and_value(item)[0] for item in requested}
    return [*requested, *(item for item in image if name_and_value(item)[0] not in names)]


def name_and_value(item: str) -> tuple[str, str]:
    """``NAME=value`` in two."""
    name, _, value = item.partition("=")
    return name, value


def _host_and_address(entry: str) -> tuple[str, str]:
    name, _, address = entry.partition(":")
    return name, address


def _limit(value: int | None) -> int:
    # -1 is one of the engine's forms of "no limit".
    return max(0, value or 0)


def _ports(bindings: Mapping[str, list[dict[str, str]] | None]) -> tuple[PortBinding, ...]:
    """The bindings as requested, so with host port 0 where the engine picks one."""
    ports = []
    for key, hosts in bindings.items():
        for host in hosts or ():
            # One that is not the service's, such as a range of ports.
            with suppress(ValueError):
                container_port, protocol = parse_port_key(key)
                host_port = int(host.get("HostPort") or 0)
                ports.append(PortBinding(container_port, host_port, host.get("HostIp") or "", protocol))
    # The engine keeps the order within a container port.
    return tuple(sorted(ports, key=lambda port: (port.container_port, port.protocol.value)))


def _health_check(check: Json, image: Json) -> HealthCheck | None:
    """The container's own health check. The engine fills in what a request leaves at 0 from the image's."""
    own = {key: value for key, value in check.items() if value and value != image.get(key)}
    test = check.get("Test") or []
    if not own or test[:1] != ["CMD"]:
        return None
    return HealthCheck(
        command=tuple(test[1:]),
        interval_seconds=own.get("Interval", 0) / _SECOND_NS,
        timeout_seconds=own.get("Timeout", 0) / _SECOND_NS,
        start_period_seconds=own.get("StartPeriod", 0) / _SECOND_NS,
        retries=own.get("Retries", 0),
    )
