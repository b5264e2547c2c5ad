"""A container's configuration as JSON, in the manifests of backups and in the journal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from container_manager.model import ContainerConfig, HealthCheck, PortBinding, Protocol, ResourceLimits


def config_to_document(config: ContainerConfig) -> dict[str, Any]:
    """The configuration as JSON values, with the names of :class:`ContainerConfig`."""
    document = asdict(config)
    for port, binding in zip(document["ports"], config.ports, strict=True):
        port["protocol"] = binding.protocol.value
    return document


def config_from_document(document: dict[str, Any]) -> ContainerConfig:
    """The inverse of :func:`config_to_document`. Raises ValueError, TypeError or KeyError for anything else."""
    health_check = document["health_check"]
    return ContainerConfig(
        **{
            **document,
            "ports": tuple(
                PortBinding(**{**port, "protocol": Protocol(port["protocol"])}) for port in document["ports"]
            ),
            "command": tuple(document["command"]),
            "resources": ResourceLimits(**document["resources"]),
            "health_check": health_check and HealthCheck(**{**health_check, "command": tuple(health_check["command"])}),
        }
    )
