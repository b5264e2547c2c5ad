"""Looks for the ends of a bot's tasks, which the swarm may forget before anybody has seen them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from container_manager.backends.swarm.tasks import has_ended, in_order, may_run
from container_manager.engine.timestamps import time_ns

Json = dict[str, Any]


class _Tasks:
    """What was seen of a bot's tasks."""

    def __init__(self) -> None:
        self.live: list[Json] = []
        """Those that were awaited at the last look."""
        self._open: dict[str, Json] = {}
        """By id, as they were seen last: those on nodes that were not seen to have ended."""

    def unseen(self) -> list[Json]:
        """The tasks that the swarm has forgotten before they were seen to have ended."""
        return list(self._open.values())

    def _note(self, tasks: Iterable[Json]) -> None:
        for task in tasks:
            if has_ended(task):
                self._open.pop(task["ID"], None)
            elif task.get("NodeID"):
                self._open[task["ID"]] = task


class ServiceEnd(_Tasks):
    """Looks until no container of a service may run, and remembers the last run."""

    def __init__(self, service_id: str, tasks: Sequence[Json]) -> None:
        super().__init__()
        self._service_id = service_id
        self.last: Json | None = None
        self.start_ns: int | None = None
        """When the last run has started."""
        self.look(tasks)

    def look(self, tasks: Sequence[Json]) -> bool:
        own = in_order(task for task in tasks if task["ServiceID"] == self._service_id)
        for task in own:
            before = self._open.get(task["ID"])
            # One that was waiting for its start when the stop came has not run.
            if may_run(task) or (has_ended(task) and (before is None or may_run(before))):
                self._take(task)
        self._note(own)
        self.live = [task for task in own if not has_ended(task)]
        return not self.live

    def _take(self, task: Json) -> None:
        if self.last is not None and in_order([self.last, task])[0] is task and task["ID"] != self.last["ID"]:
            return
        if self.last is None or self.last["ID"] != task["ID"]:
            self.start_ns = None
        if task["Status"]["State"] == "running" and _has_process(task):
            self.start_ns = time_ns(task["Status"].get("Timestamp"))
        self.last = task


class ServiceGone(_Tasks):
    """Looks until the swarm has no task of a service any more, also none that has ended."""

    def __init__(self, service_id: str) -> None:
        super().__init__()
        self._service_id = service_id

    def look(self, tasks: list[Json]) -> bool:
        self.live = [task for task in tasks if task["ServiceID"] == self._service_id]
        self._note(self.live)
        return not self.live


def _has_process(task: Json) -> bool:
    """A task that is being stopped has no longer one, but still its state."""
    return int((task["Status"].get("ContainerStatus") or {}).get("ExitCode") or 0) >= 0
