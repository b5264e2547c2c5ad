"""Converts the engine's documents to the domain's :class:`ContainerStatus`.

Rules that are not the engine's: what has not happened is ``None`` (the engine writes year 1); an exit code belongs to
a run that ended, so a running container has none, nor has one whose start failed; health belongs to a process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, TypeVar

from container_manager.actions import LABEL_ACTIONS
from container_manager.backends.bot_container import LABEL_HOSTNAME, LABEL_REQUEST_ID, bot_id_of
from container_manager.backends.docker.spec import parse_port_key
from container_manager.backends.exit_reasons import exit_reason
from container_manager.engine.timestamps import time_ns
from container_manager.model import (
    ContainerState,
    ContainerStatus,
    ExitReason,
    HealthStatus,
    Labels,
    PortBinding,
    container_name,
)
from container_manager.validation import OWN_LABEL_PREFIX

E = TypeVar("E", bound=Enum)
Json = dict[str, Any]

# Not DEAD: a dead container's error is about its removal.
_FAILED_START_STATES = (ContainerState.CREATED, ContainerState.EXITED, ContainerState.RESTARTING)
# In these states there is a process. The engine keeps the health of one that has ended.
_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED)
_DOWN = (ContainerState.EXITED, ContainerState.DEAD, ContainerState.RESTARTING)


def may_have_labels(document: Json) -> bool:
    """Whether the container has labels that its image may have given it."""
    return any(not _is_own(key) or key == LABEL_HOSTNAME for key in document["Config"].get("Labels") or ())


def status_from_inspect(document: Json, image_labels: Mapping[str, str] | None = None) -> ContainerStatus:
    """A status from ``GET /containers/{id}/json``. ``image_labels``: those of the container's image, by its id."""
    labels: Mapping[str, str] = document["Config"].get("Labels") or {}
    engine_state: Json = document["State"]
    state = _enum(ContainerState, engine_state.get("Status"))
    start = time_ns(engine_state.get("StartedAt"))
    error = str(engine_state.get("Error") or "")
    started = start is not None
    bot_id = bot_id_of(labels)
    ended = started and state in _DOWN
    failed = bool(error) and state in _FAILED_START_STATES
    exit_code = engine_state.get("ExitCode") if ended and not failed else None
    reason = ExitReason.START_FAILED if failed else None
    if exit_code is not None:
        oom_killed = bool(engine_state.get("OOMKilled"))
        reason = exit_reason(exit_code, document["Config"].get("StopSignal"), oom_killed=oom_killed)
    return ContainerStatus(
        container_id=document["Id"],
        bot_id=bot_id,
        name=document["Name"].removeprefix("/"),
        state=state,
        # Thousands of containers share one image.
        image=sys.intern(document["Config"]["Image"]),
        image_id=sys.intern(document["Image"]),
        create_time_ns=time_ns(document.get("Created")),
        start_time_ns=start,
        finish_time_ns=time_ns(engine_state.get("FinishedAt")) if ended else None,
        exit_code=exit_code,
        exit_reason=reason,
        error=error if failed else "",
        health=_enum(HealthStatus, (engine_state.get("Health") or {}).get("Status")) if state in _RUNNING else None,
        restart_count=document.get("RestartCount") or 0,
        ports=_ports((document.get("NetworkSettings") or {}).get("Ports")),
        hostname=bot_hostname(labels, image_labels or {}, document["Config"].get("Hostname")),
        labels=own_labels(labels, image_labels or {}),
        # A create cannot set it: the image has.
        action_set=sys.intern(labels.get(LABEL_ACTIONS, "")),
        own_network=_has_own_network(document, bot_id),
        request_id=labels.get(LABEL_REQUEST_ID, ""),
    )


def status_from_row(row: Json) -> ContainerStatus:
    """A partial status from a row of ``GET /containers/json``, for a container that cannot be inspected."""
    names = [name.removeprefix("/") for name in row.get("Names") or []]
    bot_id = bot_id_of(row.get("Labels"))
    return ContainerStatus(
        container_id=row["Id"],
        bot_id=bot_id,
        # Links of other containers add names that contain a slash.
        name=next((name for name in names if "/" not in name), ""),
        state=_enum(ContainerState, row.get("State")),
        image=row.get("Image") or "",
        image_id=row.get("ImageID") or "",
        create_time_ns=row["Created"] * 1_000_000_000 if row.get("Created") else None,
        labels=own_labels(row.get("Labels") or {}, {}),
        action_set=(row.get("Labels") or {}).get(LABEL_ACTIONS, ""),
        own_network=_has_own_network(row, bot_id),
        request_id=(row.get("Labels") or {}).get(LABEL_REQUEST_ID, ""),
    )


def _is_own(key: str) -> bool:
    return key.startswith(OWN_LABEL_PREFIX)


def own_labels(labels: Mapping[str, str], image_labels: Mapping[str, str]) -> Labels:
    """The labels that a create has given the container, by key."""
    return tuple(
        sorted((key, value) for key, value in labels.items() if not _is_own(key) and image_labels.get(key) != value)
    )


def bot_hostname(labels: Mapping[str, str], image_labels: Mapping[str, str], host_name: str | None) -> str:
    """The bot's name: its label, unless that comes from the image alone, as after ``docker commit``."""
    hostname = labels.get(LABEL_HOSTNAME, "")
    return hostname if host_name == hostname or image_labels.get(LABEL_HOSTNAME) != hostname else ""


def _has_own_network(document: Json, bot_id: str) -> bool:
    return bool(bot_id) and (document.get("HostConfig") or {}).get("NetworkMode") == container_name(bot_id)


def _enum(cls: type[E], value: object) -> E | None:
    try:
        return cls(value)
    except ValueError:
        return None


def _ports(engine_ports: dict[str, list[dict[str, str]] | None] | None) -> tuple[PortBinding, ...]:
    bound = []
    for key, hosts in (engine_ports or {}).items():
        for host in hosts or []:
            # Skip a malformed binding, so that the rest of the status is still readable.
            with suppress(LookupError, TypeError, ValueError):
                container_port, protocol = parse_port_key(key)
                bound.append(PortBinding(container_port, int(host["HostPort"]), host.get("HostIp", ""), protocol))
    return tuple(sorted(bound, key=lambda port: (port.container_port, port.protocol.value, port.host_ip)))
