"""Writes down on services what no call does: what became of changes whose service has died, and restarts.

    starting for long    The start is seen through: its caller does not wait for the record, or its service has died.
    a stop left behind   Its container is noted as ended, once its node is back and that is certain.
    a remove             The service is removed once nothing of it runs.
    a revived task       A task that the swarm restarts in the moment in which its service is scaled to 0 replicas runs
                         on, and is restarted on and on: swarmkit (``manager/orchestrator``) looks at the service again
                         only when that changes. So it is changed once more.
    restarts             A swarm keeps five tasks of a bot, so those that have ended are counted before it forgets them.

Nothing is written on a service that has changed since it was looked at, so that any number of services may do this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from threading import Event
from typing import Any

from container_manager.backends.bot_container import bot_id_of
from container_manager.backends.swarm import records
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.left_containers import UNCERTAIN, LeftContainers
from container_manager.backends.swarm.records import (
    Counted,
    Phase,
    counted_of,
    is_removing,
    left_on,
    phase_of,
    replicas_of,
)
from container_manager.backends.swarm.starts import Starts
from container_manager.backends.swarm.status import is_down
from container_manager.backends.swarm.tasks import (
    created_ns,
    first_run,
    has_ended,
    in_order,
    is_being_forgotten,
    is_unplaced,
    may_run,
    shows_start,
)
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError, NodeUnavailableError
from container_manager.model import container_name
from container_manager.operation import Operation, Wait, carry_out

Json = dict[str, Any]

_UNCOUNTED = 3
# Desired states.
_WANTED = ("ready", "running")
_LONGEST_SECONDS = 10.0
# A shutdown waits no longer.
_STEP_SECONDS = 0.2


class Upkeep:
    """Of the services of one swarm, for any number of threads."""

    def __init__(
        self, services: BotServices, starts: Starts, left: LeftContainers, remove: Callable[[Json, str], None]
    ) -> None:
        """``remove``: removes a service of which nothing runs."""
        self._services = services
        self._remove = remove
        self._starts = starts
        self._left = left
        self._closed = Event()

    def close(self) -> None:
        """End what is waited for."""
        self._closed.set()

    def attend(self, service: Json) -> None:
        """Do what is due for a service. Never raises: what has failed is due again."""
        bot_id = bot_id_of(service["Spec"].get("Labels"))
        with suppress(ContainerManagerError):
            if phase_of(service) is Phase.STARTING:
                # Should it fail, that is written down.
                carry_out(_briefly(self._starts.see_through(service, bot_id), self._closed))
                return
            if left_on(service):
                with suppress(NodeUnavailableError):
                    self._left.is_settled(service, bot_id, UNCERTAIN)
            tasks = self._services.tasks_of(service, Deadline())
            if _is_to_go(service, tasks):
                self._remove(service, bot_id)
                return
            # Of the version that was looked at, or not at all.
            self._services.change(service, lambda each: _written(each, tasks) if each is service else None, bot_id)


def _briefly(operation: Operation[None], closed: Event) -> Operation[None]:
    """As far as the operation comes in some seconds: nobody who waits for it can give it up."""
    ends = time.monotonic() + _LONGEST_SECONDS
    with closing(operation):
        for wait in operation:
            while wait.future is not None and not wait.future.done():
                yield Wait(future=wait.future, seconds=_STEP_SECONDS)
                if time.monotonic() >= ends or closed.is_set():
                    return


def is_due(service: Json, tasks: Iterable[Json], nodes: Mapping[str, Json]) -> bool:
    """Whether there is something to do for the service. ``tasks``: of this service."""
    ordered = in_order(tasks)
    if not _is_own(service):
        return False
    if _is_revived(service, ordered) or _is_to_go(service, ordered):
        return True
    if phase_of(service) is Phase.STARTING:
        since = _since_start(service, ordered)
        first = first_run(since)
        if replicas_of(service) == 0 or first is None:
            return False
        return shows_start(first) or may_run(first) or is_unplaced(first)
    left = left_on(service)
    is_over = replicas_of(service) > 0 or all(map(has_ended, ordered))
    if left and is_over and not any(is_down(nodes[each]) for each in left if each in nodes):
        return True
    return _counted(service, ordered) is not None


def _is_own(service: Json) -> bool:
    """Whether it is a service as this one makes them. Others have our labels, and are never changed."""
    spec: Json = service["Spec"]
    return "Replicated" in spec["Mode"] and spec["Name"] == container_name(bot_id_of(spec.get("Labels")))


def _written(service: Json, tasks: Sequence[Json]) -> Json | None:
    """The specification that the service is to be changed to; ``None``: it is not to be changed."""
    return service["Spec"] if _is_revived(service, tasks) else _counted(service, tasks)


def _is_revived(service: Json, tasks: Iterable[Json]) -> bool:
    """Whether the swarm means to run what is left of a service that is to have no container."""
    live = [task for task in tasks if not has_ended(task)]
    return replicas_of(service) == 0 and bool(live) and all(task["DesiredState"] in _WANTED for task in live)


def _is_to_go(service: Json, tasks: Iterable[Json]) -> bool:
    """Whether the service is kept for nothing."""
    is_over = all(has_ended(task) and not is_being_forgotten(task) for task in tasks)
    return is_removing(service["Spec"]) and not left_on(service) and is_over


def _counted(service: Json, tasks: Iterable[Json]) -> Json | None:
    """The specification with the restarts that the swarm may forget; ``None``: there are few."""
    # The newest may still run.
    past = _since_start(service, in_order(tasks))[:-1]
    if replicas_of(service) == 0 or phase_of(service) is not Phase.STARTED or len(past) < _UNCOUNTED:
        return None
    runs = counted_of(service).runs + sum(has_ended(task) or may_run(task) for task in past)
    return records.counted(service["Spec"], Counted(runs, created_ns(past[-1])))


def _since_start(service: Json, ordered: Sequence[Json]) -> list[Json]:
    """The tasks since the start, or since the newest that is counted."""
    return [task for task in ordered if created_ns(task) > counted_of(service).until_ns]
