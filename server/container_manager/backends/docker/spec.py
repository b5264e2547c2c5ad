"""The specification of a bot's container. No other module decides what a container looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from container_manager.backends.bot_container import LOG_OPTIONS, bot_labels, environment, health_check_body
from container_manager.bot_directories import SECRETS_TARGET
from container_manager.model import (
    DEFAULT_HOST_IP,
    ContainerConfig,
    PortBinding,
    Protocol,
)

DEFAULT_NETWORK = "bridge"


def container_body(
    bot_id: str,
    config: ContainerConfig,
    *,
    image: str,
    secrets_source: str,
    state_source: str | None,
    state_target: str,
    request_id: str,
    create_id: str,
    stop_seconds: int,
) -> dict[str, Any]:
    """The body of the engine's ``POST /containers/create`` (Docker Engine API 1.41 and later).

    ``state_target``: where the state directory appears in the container.
    ``stop_seconds``: the grace period of stops that this service does not send, such as at the engine's own shutdown.
    """
    body: dict[str, Any] = {
        "Image": image,
        # Not the engine's, which is another one whenever the bot's container is made anew: OpenClaw takes a lease of a
        # former process for that of another machine then, and does not start for minutes.
        "Hostname": config.hostname or bot_id,
        "Env": environment(bot_id, config),
        "Labels": bot_labels(bot_id, config, request_id, create_id),
        "ExposedPorts": {_port_key(port): {} for port in config.ports},
        "StopTimeout": stop_seconds,
        "HostConfig": _host_config(config, secrets_source, state_source, state_target),
    }
    if config.command:
        body["Cmd"] = list(config.command)
    if config.health_check is not None:
        body["Healthcheck"] = health_check_body(config.health_check)
    return body


def _host_config(
    config: ContainerConfig, secrets_source: str, state_source: str | None, state_target: str
) -> dict[str, Any]:
    # Mounts, not Binds: a bind string creates a missing source as root (moby/moby#13121).
    mounts = [{"Type": "bind", "Source": secrets_source, "Target": SECRETS_TARGET, "ReadOnly": True}]
    if state_source is not None:
        mounts.append({"Type": "bind", "Source": state_source, "Target": state_target, "ReadOnly": False})
    limits = config.resources
    host_config: dict[str, Any] = {
        "Mounts": mounts,
        "NetworkMode": config.network or DEFAULT_NETWORK,
        "PortBindings": _port_bindings(config.ports),
        "ExtraHosts": [f"{name}:{address}" for name, address in config.extra_hosts.items()],
        "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        "Init": True,
        "Privileged": False,
        # The engine's defaults depend on its settings, and for control groups of version 1 the default is the host's.
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "json-file", "Config": LOG_OPTIONS},
    }
    if limits.memory_bytes:
        # Without MemorySwap the engine grants the same amount of swap in addition.
        host_config |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    if limits.nano_cpus:
        host_config["NanoCpus"] = limits.nano_cpus
    if limits.pids_limit:
        host_config["PidsLimit"] = limits.pids_limit
    return host_config


def _port_key(port: PortBinding) -> str:
    return f"{port.container_port}/{port.protocol.value}"


def _port_bindings(ports: Sequence[PortBinding]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host = {"HostIp": port.host_ip or DEFAULT_HOST_IP, "HostPort": str(port.host_port or "")}
        bindings.setdefault(_port_key(port), []).append(host)
    return bindings


def parse_port_key(key: str) -> tuple[int, Protocol]:
    """``"8080/udp"`` as the engine writes it."""
    number, _, protocol = key.partition("/")
    return int(number), Protocol(protocol or "tcp")
