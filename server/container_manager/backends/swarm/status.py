"""A bot's status on a swarm, from its service, the service's tasks and the nodes.

A service is the bot's container as callers see it; its tasks are the runs. The newest task shows the present run:

    replicas  newest task                       state
    0         runs still                        RUNNING (it is being stopped)
    0         none, its end is not certain yet  RUNNING
    0         none, or ended                    CREATED, or EXITED after a start
    0         any, and it is to be removed      REMOVING
    1         running                           RUNNING
    1         starting, with a health check     RUNNING, health STARTING: a swarm waits for the check
    1         not started, none before it       CREATED
    1         ended, or the next one waits      RESTARTING
    no service, but a task is left              REMOVING

A node that is down says nothing: its tasks stay as they were last seen, and ``node_unreachable`` is true.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from container_manager.backends.bot_container import LABEL_HOSTNAME, LABEL_REQUEST_ID, bot_id_of
from container_manager.backends.exit_reasons import exit_reason
from container_manager.backends.swarm.records import (
    LABEL_IMAGE,
    Phase,
    Run,
    counted_of,
    is_image_checked,
    is_removing,
    last_run_of,
    left_on,
    phase_of,
    replicas_of,
)
from container_manager.backends.swarm.tasks import age, created_ns, has_ended, in_order, may_run, run_of
from container_manager.engine.timestamps import time_ns
from container_manager.image_reference import content_id_of
from container_manager.model import (
    ContainerState,
    ContainerStatus,
    ExitReason,
    HealthStatus,
    Labels,
    LastExit,
    PortBinding,
    Protocol,
    container_name,
)
from container_manager.validation import OWN_LABEL_PREFIX

Json = dict[str, Any]

_ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - where a swarm publishes ports
_PINNED = "node.id=="


def status_of(service: Json, tasks: Sequence[Json], nodes: Mapping[str, Json]) -> ContainerStatus:
    """The status of a bot with a service. ``tasks``: of this service, in any order; ``nodes``: by their ids."""
    spec: Json = service["Spec"]
    labels: Mapping[str, str] = spec.get("Labels") or {}
    container: Json = spec["TaskTemplate"]["ContainerSpec"]
    ordered = in_order(tasks)
    task = ordered[-1] if ordered else None
    left = _left_node(service, nodes)
    node = nodes.get(left or _node_id(ordered) or pinned_node(service), {})
    state, run = _state(service, ordered, left), _run(service, ordered)
    runs = state is ContainerState.RUNNING
    failed = state is ContainerState.EXITED and run is not None and bool(run.error)
    image = container["Image"].partition("@")[0]
    return ContainerStatus(
        container_id=service["ID"],
        bot_id=bot_id_of(labels),
        name=spec["Name"],
        state=state,
        image=sys.intern(labels.get(LABEL_IMAGE) or image),
        image_id=sys.intern(content_id_of(container["Image"])),
        create_time_ns=time_ns(service.get("CreatedAt")),
        start_time_ns=_start_time(state, ordered, run),
        finish_time_ns=None if runs or run is None else run.finish_time_ns,
        exit_code=None if runs or run is None or failed else run.exit_code,
        exit_reason=None if runs else _reason(run, container, failed=failed),
        error=run.error if failed and run is not None else "" if runs or task is None else _waits_for(task),
        health=_health(service, task) if runs and task is not None else None,
        restart_count=restart_count(service, ordered),
        ports=_ports(task) if runs and task is not None else (),
        hostname=labels.get(LABEL_HOSTNAME, ""),
        labels=_own_labels(labels),
        last_exit=_last_exit(service, ordered, container) if runs else None,
        node=sys.intern(node_name(node)),
        node_unreachable=bool(node) and is_down(node),
        request_id=labels.get(LABEL_REQUEST_ID, ""),
    )


def _node_id(ordered: Sequence[Json]) -> str:
    """The newest task's; while it waits for one, that of the newest which may still run, as on a node that is down."""
    shown = (task for task in reversed(ordered) if task is ordered[-1] or may_run(task))
    return next((task["NodeID"] for task in shown if task.get("NodeID")), "")


def _left_node(service: Json, nodes: Mapping[str, Json]) -> str:
    """The id of a node on which a stop may have left a container, of one that is down if there is; empty: of none."""
    left = [each for each in left_on(service) if each in nodes] if replicas_of(service) == 0 else []
    return min(left, key=lambda each: (not is_down(nodes[each]), each), default="")


def removed_status(tasks: Sequence[Json], nodes: Mapping[str, Json]) -> ContainerStatus:
    """The status of a bot whose service is gone, but not yet these tasks of it, at least one."""
    task = max(tasks, key=age)
    container: Json = task["Spec"]["ContainerSpec"]
    labels: Mapping[str, str] = container.get("Labels") or {}
    image = container["Image"].partition("@")[0]
    node = nodes.get(task.get("NodeID", ""), {})
    bot_id = bot_id_of(labels)
    return ContainerStatus(
        container_id=task["ServiceID"],
        bot_id=bot_id,
        # The API gives tasks no name; that of a bot's service is known.
        name=container_name(bot_id) if bot_id else task["ServiceID"],
        state=ContainerState.REMOVING,
        image=image,
        image_id=content_id_of(container["Image"]),
        create_time_ns=time_ns(min(tasks, key=age).get("CreatedAt")),
        labels=_own_labels(labels),
        node=node_name(node),
        node_unreachable=bool(node) and is_down(node),
    )


def is_checked(service: Json) -> bool:
    """Whether the bot has a health check, of its own or, as far as it is known, of its image."""
    spec: Json = service["Spec"]
    return bool(spec["TaskTemplate"]["ContainerSpec"].get("Healthcheck")) or is_image_checked(spec)


def is_down(node: Json) -> bool:
    """Whether nothing is heard of the node."""
    return (node.get("Status") or {}).get("State") != "ready"


def node_name(node: Json) -> str:
    """The node's host name; empty for one that is not known."""
    return str((node.get("Description") or {}).get("Hostname") or "")


def pinned_node(service: Json) -> str:
    """The id of the node that the bot's state is on; empty: it may run on any."""
    constraints = (service["Spec"]["TaskTemplate"].get("Placement") or {}).get("Constraints") or ()
    return next((each.removeprefix(_PINNED) for each in constraints if each.startswith(_PINNED)), "")


def restart_count(service: Json, tasks: Iterable[Json]) -> int:
    """How often the bot was restarted since its last start."""
    if replicas_of(service) == 0:
        run = last_run_of(service)
        return 0 if run is None else max(0, run.restart_count)
    known = counted_of(service)
    runs = known.runs + sum(created_ns(task) > known.until_ns and (has_ended(task) or may_run(task)) for task in tasks)
    return max(0, runs - 1)


def _state(service: Json, ordered: Sequence[Json], left: str) -> ContainerState:
    """``left``: as :func:`_left_node` has it."""
    phase = phase_of(service)
    if is_removing(service["Spec"]):
        return ContainerState.REMOVING
    if replicas_of(service) == 0:
        if left or any(may_run(task) for task in ordered):
            return ContainerState.RUNNING
        return ContainerState.CREATED if phase is Phase.CREATED else ContainerState.EXITED
    if not ordered:
        return ContainerState.CREATED
    task = ordered[-1]
    status = task["Status"]
    if status["State"] == "running" or (status["State"] == "starting" and is_checked(service)):
        return ContainerState.RUNNING
    return ContainerState.RESTARTING if has_ended(task) or _earlier(service, ordered) else ContainerState.CREATED


def _earlier(service: Json, ordered: Sequence[Json]) -> bool:
    """Whether there was a run since the last start before the newest task."""
    counted = counted_of(service)
    return counted.runs > 0 or any(
        has_ended(task) or (may_run(task) and created_ns(task) > counted.until_ns) for task in ordered[:-1]
    )


def _run(service: Json, ordered: Sequence[Json]) -> Run | None:
    """How the newest run ended, if it has."""
    ended = [task for task in ordered if has_ended(task)]
    if replicas_of(service) == 0:
        return last_run_of(service) or (run_of(ended[-1]) if ended else None)
    return run_of(ended[-1]) if ended else None


def _start_time(state: ContainerState, ordered: Sequence[Json], run: Run | None) -> int | None:
    if state is ContainerState.RUNNING:
        task = next((task for task in reversed(ordered) if may_run(task)), None)
        # The time of its state, which it has had since its start.
        return None if task is None else time_ns(task["Status"].get("Timestamp"))
    return None if run is None else run.start_time_ns


def _reason(run: Run | None, container: Json, *, failed: bool) -> ExitReason | None:
    if failed:
        return ExitReason.START_FAILED
    if run is None or run.exit_code is None:
        return None
    return exit_reason(run.exit_code, container.get("StopSignal"), oom_killed=False)


def _waits_for(task: Json) -> str:
    """Why the next run does not begin, in the swarm's own words."""
    return "" if has_ended(task) else str(task["Status"].get("Err") or "")


def _health(service: Json, task: Json) -> HealthStatus | None:
    if not is_checked(service):
        return None
    return HealthStatus.HEALTHY if task["Status"]["State"] == "running" else HealthStatus.STARTING


def _last_exit(service: Json, ordered: Sequence[Json], container: Json) -> LastExit | None:
    # Tasks that were rejected had no process. Of others the end may be unknown, and then no older one is shown.
    ended = [task for task in ordered if has_ended(task) and task["Status"]["State"] != "rejected"]
    run = run_of(ended[-1]) if ended else last_run_of(service)
    if run is None or run.exit_code is None or run.finish_time_ns is None:
        return None
    reason = exit_reason(run.exit_code, container.get("StopSignal"), oom_killed=False)
    return LastExit(run.exit_code, reason, run.finish_time_ns)


def _ports(task: Json) -> tuple[PortBinding, ...]:
    bound = {
        PortBinding(port["TargetPort"], port["PublishedPort"], _ALL_ADDRESSES, Protocol(port.get("Protocol", "tcp")))
        for port in (task["Status"].get("PortStatus") or {}).get("Ports") or ()
    }
    return tuple(sorted(bound, key=lambda port: (port.container_port, port.protocol.value)))


def _own_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((key, value) for key, value in labels.items() if not key.startswith(OWN_LABEL_PREFIX)))
