"""A service's tasks: each is one run of its container on a node, or what keeps one from beginning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from container_manager.backends.swarm.records import Run
from container_manager.engine.timestamps import time_ns

Json = dict[str, Any]

ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
"""States of tasks whose container has ended, or never was."""
_WITH_OUTCOME = frozenset({"running", "complete", "failed", "rejected"})
_WITH_PROCESS = frozenset({"starting", "running"})
_ENDED_ERROR = "task: non-zero exit"


def created_ns(task: Json) -> int:
    """The task's create time, in nanoseconds since the epoch."""
    return time_ns(task.get("CreatedAt")) or 0


def in_order(tasks: Iterable[Json]) -> list[Json]:
    """The tasks, oldest first."""
    return sorted(tasks, key=age)


def has_ended(task: Json) -> bool:
    """Whether the task's container has ended, or never was."""
    return task["Status"]["State"] in ENDED


def nodes_of(tasks: Iterable[Json]) -> set[str]:
    """The nodes on which these tasks may run, or may still be started."""
    return {task["NodeID"] for task in tasks if task.get("NodeID") and not has_ended(task)}


def given_up_nodes(tasks: Iterable[Json]) -> set[str]:
    """The nodes of tasks that the swarm has given up, since these nodes were down for a day. They may run there."""
    return {task["NodeID"] for task in tasks if task.get("NodeID") and task["Status"]["State"] == "orphaned"}


def is_being_forgotten(task: Json) -> bool:
    """Whether the swarm forgets the task as soon as it has ended. Its service must not be removed before that.

    Otherwise the leader's engine may crash: swarmkit before November 2025 (``manager/orchestrator/service.go``) takes
    every task that it finds of a removed service for one that is still there a moment later.
    """
    return bool(task["DesiredState"] == "remove")


def may_run(task: Json) -> bool:
    """Whether the task may have a container that runs."""
    # Before "starting" there is no process, and a task that is not wanted any more never gets one.
    return task["Status"]["State"] in _WITH_PROCESS


def is_unplaced(task: Json) -> bool:
    """Whether the swarm has found no node that can take the task."""
    return task["Status"]["State"] == "pending" and bool(task["Status"].get("Err"))


def container_of(task: Json) -> str:
    """The id that the node's engine has given the task's container; empty: there is none yet."""
    return str((task["Status"].get("ContainerStatus") or {}).get("ContainerID") or "")


def newest_running(tasks: Iterable[Json]) -> Json | None:
    """The newest of the tasks that has a container that may run; ``None``: none has."""
    return next((task for task in reversed(in_order(tasks)) if may_run(task) and container_of(task)), None)


def first_run(ordered: Sequence[Json]) -> Json | None:
    """The task that shows how a start went, of those since the start, oldest first; ``None``: there is none yet.

    The swarm no longer waits for a task, such as one on a node that is down, once it has made another. One that it has
    ended itself, as when its node was lost, shows nothing.
    """
    return next((task for task in ordered if shows_start(task) or task is ordered[-1]), None)


def shows_start(task: Json) -> bool:
    """Whether the task has run, or has ended by itself."""
    return task["Status"]["State"] in _WITH_OUTCOME


def run_of(task: Json, restart_count: int = 0, node: str = "") -> Run:
    """The run of a task that has ended."""
    status: Json = task["Status"]
    error = "" if _has_run(task) else str(status.get("Err") or status.get("Message") or "")
    code = (status.get("ContainerStatus") or {}).get("ExitCode")
    return Run(
        exit_code=code if _has_run(task) else None,
        start_time_ns=time_ns(task.get("CreatedAt")) if _has_run(task) else None,
        finish_time_ns=time_ns(status.get("Timestamp")) if _has_run(task) else None,
        error=error,
        restart_count=restart_count,
        node=node,
    )


def age(task: Json) -> tuple[int, str]:
    """What orders tasks by their age."""
    return created_ns(task), task["ID"]


def _has_run(task: Json) -> bool:
    """Whether the task, which has ended, had a process."""
    status: Json = task["Status"]
    error = str(status.get("Err") or "")
    return status["State"] in ("complete", "shutdown") or error.startswith(_ENDED_ERROR) or "unhealthy" in error
