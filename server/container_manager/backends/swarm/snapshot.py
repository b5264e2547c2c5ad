"""Everything that a manager shows of bots at one moment, and which bots have changed since the moment before."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from container_manager.backend import Notice
from container_manager.backends.bot_container import LABEL_MANAGED
from container_manager.backends.swarm.polled_list import Change, PolledList
from container_manager.backends.swarm.records import left_on
from container_manager.backends.swarm.status import is_down, node_name, pinned_node, removed_status, status_of
from container_manager.engine.timestamps import time_ns
from container_manager.model import ContainerStatus

Json = dict[str, Any]


class Snapshot:
    """Services, tasks and nodes, as the manager's lists last had them. On one event loop; updated by one task."""

    def __init__(self) -> None:
        self.services = PolledList()
        self.tasks = PolledList()
        self.nodes = PolledList()
        self.updated: float | None = None
        """The loop's time at which the newest lists were asked for; ``None``: they never were."""
        self._tasks_of: dict[str, dict[str, Json]] = {}
        self._unchanged_since: dict[str, float] = {}

    async def update(self, services: bytes, tasks: bytes, nodes: bytes, *, asked: float) -> list[Notice]:
        """Take over the lists, which were asked for at ``asked``, by the loop's clock: which bots have changed.

        Raises ``ValueError`` for an answer that is not such a list. Takes over all lists or, when it is cancelled,
        none.
        """
        answers = [
            (each, await each.decode(body))
            for each, body in ((self.tasks, tasks), (self.services, services), (self.nodes, nodes))
        ]
        of_tasks, of_services, of_nodes = (each.take(answer) for each, answer in answers)
        changed: dict[str, int] = {}
        created: set[str] = set()
        for change in of_tasks:
            self._index(change)
            _note(changed, _newest(change)["ServiceID"], change)
        for change in of_services:
            _note(changed, _newest(change)["ID"], change)
            if change.before is None and change.after is not None and _is_untouched(change.after):
                created.add(change.after["ID"])
        if matter := {
            _newest(change)["ID"]: change for change in of_nodes if _shown(change.before) != _shown(change.after)
        }:
            for key, node_id in self._on(matter):
                _note(changed, key, matter[node_id])
        self.updated = asked
        now = asyncio.get_running_loop().time()
        return [self._notice(key, at_ns, now, created=key in created) for key, at_ns in changed.items()]

    def ids(self) -> list[str]:
        """The ids of all bots' containers, also of those that are being removed."""
        removed = [key for key in self._tasks_of if key not in self.services.documents]
        return [*(key for key, each in self.services.documents.items() if is_bot(each)), *removed]

    def service(self, container_id: str) -> Json | None:
        """The service; ``None``: there is none."""
        return self.services.documents.get(container_id)

    def tasks_of(self, container_id: str) -> list[Json]:
        """The tasks of a service."""
        return list(self._tasks_of.get(container_id, {}).values())

    def status(self, container_id: str) -> ContainerStatus | None:
        """The container's status; ``None``: there is none."""
        return bot_status(self.service(container_id), self.tasks_of(container_id), self.nodes.documents)

    def unchanged_seconds(self, container_id: str) -> float:
        """For how long, at least, nothing has changed of a container."""
        now = asyncio.get_running_loop().time()
        return now - self._unchanged_since.get(container_id, now)

    def _index(self, change: Change) -> None:
        if change.after is not None:
            self._tasks_of.setdefault(change.after["ServiceID"], {})[change.after["ID"]] = change.after
        elif change.before is not None:
            tasks = self._tasks_of[change.before["ServiceID"]]
            del tasks[change.before["ID"]]
            if not tasks:
                del self._tasks_of[change.before["ServiceID"]]

    def _on(self, nodes: Container[str]) -> Iterator[tuple[str, str]]:
        """The services that are on one of these nodes, each with the node."""
        for key, tasks in self._tasks_of.items():
            yield from ((key, each["NodeID"]) for each in tasks.values() if each.get("NodeID") in nodes)
        for key, service in self.services.documents.items():
            if is_bot(service):
                yield from ((key, each) for each in (pinned_node(service), *left_on(service)) if each in nodes)

    def _notice(self, key: str, at_ns: int, now: float, *, created: bool) -> Notice:
        tasks = key in self._tasks_of
        gone = not tasks and key not in self.services.documents
        if gone:
            self._unchanged_since.pop(key, None)
        else:
            self._unchanged_since[key] = now
        return Notice(key, gone, managed=True, time_ns=at_ns, created=created and not tasks)


def is_bot(service: Json) -> bool:
    """Whether a service is a bot's container; one that was made by hand may have the label and no container."""
    spec: Json = service["Spec"]
    return (spec.get("Labels") or {}).get(LABEL_MANAGED) == "true" and bool(
        (spec.get("TaskTemplate") or {}).get("ContainerSpec")
    )


def bot_status(service: Json | None, tasks: Sequence[Json], nodes: Mapping[str, Json]) -> ContainerStatus | None:
    """The status of a container; ``None`` if there is neither a service of ours nor a task of one that is gone."""
    if service is not None:
        return status_of(service, tasks, nodes) if is_bot(service) else None
    # Others, as those of plugins, are no bots' runs.
    runs = [task for task in tasks if task["Spec"].get("ContainerSpec")]
    return removed_status(runs, nodes) if runs else None


def by_service(tasks: Iterable[Json]) -> dict[str, list[Json]]:
    """The tasks by the ids of their services."""
    found: dict[str, list[Json]] = {}
    for task in tasks:
        found.setdefault(task["ServiceID"], []).append(task)
    return found


def _note(changed: dict[str, int], key: str, change: Change) -> None:
    """Note that a service has changed, and when, as far as the manager says."""
    at_ns = time_ns((change.after or {}).get("UpdatedAt")) or 0
    changed[key] = max(at_ns, changed.get(key, 0))


def _newest(change: Change) -> Json:
    return change.after or change.before or {}


def _is_untouched(service: Json) -> bool:
    """Whether nothing has happened to the service since it was made."""
    return service.get("CreatedAt") == service.get("UpdatedAt")


def _shown(node: Json | None) -> tuple[str, bool] | None:
    """What statuses show of a node."""
    return None if node is None else (node_name(node), is_down(node))
