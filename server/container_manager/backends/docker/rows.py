"""Reads a row of the engine's list: a short status, and whether the container's process has run on without a break."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from container_manager.backend import Listed
from container_manager.backends.docker.status import status_from_row
from container_manager.model import ContainerState, HealthStatus, PortBinding, Protocol

Json = dict[str, Any]

# "Up 3 hours (healthy)", "Up About a minute (Paused)": how long, and what else. The engine has no field for either in
# its list. (docker/go-units, HumanDuration; moby, container/state.go)
_UP = re.compile(r"Up (?:(\d+)|About an?) (second|minute|hour|day|week|month|year)s?(?: \(([^()]*)\))?")
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
# Hours are rounded to the nearest: "2 hours" may be one and a half.
_LEAST_SHARE = 0.75
_HEALTH = {
    "healthy": HealthStatus.HEALTHY,
    "unhealthy": HealthStatus.UNHEALTHY,
    "health: starting": HealthStatus.STARTING,
    "starting": HealthStatus.STARTING,
}


def listed_from_row(row: Json) -> Listed:
    """From a row of ``GET /containers/json``."""
    status = status_from_row(row)
    up = _UP.fullmatch(str(row.get("Status") or ""))
    # The engine does not show the health of a paused container.
    if up is None or status.state is not ContainerState.RUNNING:
        return Listed(status)
    return Listed(
        status,
        running_seconds=int(up[1] or 1) * _SECONDS[up[2]] * _LEAST_SHARE,
        health=_HEALTH.get(up[3] or ""),
        ports=_ports(row.get("Ports")),
    )


def _ports(rows: list[Json] | None) -> tuple[PortBinding, ...]:
    bound = []
    for row in rows or []:
        # A port that is exposed only has no public one.
        with suppress(LookupError, TypeError, ValueError):
            bound.append(PortBinding(row["PrivatePort"], row["PublicPort"], row.get("IP", ""), Protocol(row["Type"])))
    return tuple(sorted(bound, key=lambda port: (port.container_port, port.protocol.value, port.host_ip)))
