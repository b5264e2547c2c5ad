"""Waits for the tasks of a bot: for the outcome of a start, and for the end of what runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from container_manager.backends.swarm.bot_services import BotServices, not_found
from container_manager.backends.swarm.ends import ServiceEnd, ServiceGone
from container_manager.backends.swarm.left_containers import END_SECONDS, UNCERTAIN
from container_manager.backends.swarm.node_ending import Ending
from container_manager.backends.swarm.records import Run, replicas_of, start_id_of
from container_manager.backends.swarm.status import is_checked, pinned_node
from container_manager.backends.swarm.task_containers import TaskContainers
from container_manager.backends.swarm.task_watch import Look, TaskWatch
from container_manager.backends.swarm.tasks import (
    container_of,
    created_ns,
    first_run,
    has_ended,
    in_order,
    is_being_forgotten,
    is_unplaced,
    may_run,
    run_of,
)
from container_manager.deadline import Deadline
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.swarm import SwarmClient
from container_manager.errors import (
    EngineTimeoutError,
    EngineUnavailableError,
    OperationInProgressError,
)
from container_manager.model import container_name
from container_manager.operation import Operation, Wait

Json = dict[str, Any]

START_SECONDS = 600.0
"""How long a start may take: its node may have to pull the image first."""
_SERVICE_SECONDS = 1.0
"""While a start has no task, it looks so often whether its service is still to start."""
_UNPLACED_SECONDS = 2.0
"""How long a start waits for a node that can take the bot."""
_CHECKED_SECONDS = 1.0
"""A container with a health check that is starting for so long runs already: the swarm waits for the check."""
_IMAGE_CHECKED_SECONDS = 5.0
"""The same for a container whose image may have a health check."""
_SETTLED_SECONDS, _LONGEST_SETTLED_SECONDS = 0.2, 5.0
"""A program that is missing is told by the container's init process, in its exit code, right after the start. A node
that took long to start the container takes longer still to tell that."""
_TOLD_SECONDS = 5.0
"""How much later than the engine of a node the managers know of an end, on a busy machine."""
_NODES_SECONDS = 0.5
# 1: what is wrong has no exit code of its own, as with a name that is too long.
_INIT_EXIT_CODES = (1, 126, 127)
_KEPT = "the bot has ended and is not removed yet"
_NO_START = "the bot cannot be started; start it when the node is back"


class StartFailed(Exception):  # noqa: N818 - never leaves this package
    """The first run of a start has failed: the engine's own text, and the run."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.text = text
        self.run = run


class StartNotKnown(Exception):  # noqa: N818 - as above
    """The first run of a start has ended, and nobody has the log that says whether it ever ran its program."""


@dataclass
class _Times:
    """Since when each thing has been so."""

    since: dict[str, float] = field(default_factory=dict)

    def seconds(self, what: str, *, so: bool) -> float:
        """How long it has been so; 0: it is not."""
        if not so:
            self.since.pop(what, None)
            return 0.0
        return time.monotonic() - self.since.setdefault(what, time.monotonic())


class _Start:
    """Looks for the first run of a start."""

    def __init__(self, service: Json, until_ns: int) -> None:
        """``until_ns``: tasks of up to this create time are of earlier starts."""
        self._service_id = service["ID"]
        self._until_ns = until_ns
        # The image's own program may be missing too.
        self._settled = _SETTLED_SECONDS
        self._checked = _CHECKED_SECONDS if is_checked(service) else _IMAGE_CHECKED_SECONDS
        self._times = _Times()
        self._ends = time.monotonic() + START_SECONDS
        self.first: Json | None = None
        self.unplaced = False
        """No node can take it."""
        self.image_checked = False
        """It runs, and a health check that only its image can have has not passed."""

    def look(self, tasks: list[Json]) -> bool:
        new = [task for task in tasks if task["ServiceID"] == self._service_id and created_ns(task) > self._until_ns]
        first = self.first = first_run(in_order(new))
        if first is None or time.monotonic() > self._ends:
            return time.monotonic() > self._ends
        status = first["Status"]
        runs = self._times.seconds("running", so=status["State"] == "running")
        starting = self._times.seconds("starting", so=status["State"] == "starting" and bool(container_of(first)))
        self._settled = min(max(self._settled, starting**2 / 2), _LONGEST_SETTLED_SECONDS)
        waits = self._times.seconds("unplaced", so=is_unplaced(first))
        self.unplaced = waits > _UNPLACED_SECONDS
        self.image_checked = starting >= self._checked
        settled = status["State"] == "running" and runs >= self._settled
        return has_ended(first) or settled or self.unplaced or self.image_checked

    def look_for_end(self, seconds: float) -> Look:
        """Looks until that run has ended, for so long at most."""
        ends = time.monotonic() + seconds
        return lambda tasks: (self.look(tasks) and has_ended(self.first or {})) or time.monotonic() > ends


class Runs:
    """Of the bots of one swarm, for any number of threads."""

    def __init__(
        self, engine: SwarmClient, services: BotServices, watch: TaskWatch, calls: Mapping[str, LongCalls]
    ) -> None:
        """``calls``: to nodes' own engines, by the nodes' host names or ids."""
        self._containers = TaskContainers(engine, services, calls)
        self._services = services
        self._watch = watch
        self._unanswered = float("-inf")
        """When the managers last did not say which nodes are down."""

    def await_start(
        self, service: Json, bot_id: str, until_ns: int, start_id: str, deadline: Deadline
    ) -> Operation[bool]:
        """Wait for the first run of the service's newest start; whether its image has a health check.

        ``until_ns``: tasks of up to this create time are of earlier starts. Raises :class:`StartFailed`,
        :class:`StartNotKnown`, :class:`NodeUnavailableError` for a bot whose only node cannot be reached,
        :class:`OperationInProgressError` and :class:`ContainerNotFoundError` when somebody else has ended this start,
        and what ``deadline`` raises.
        """
        start = _Start(service, until_ns)
        future = self._watch.until(service["Spec"]["Name"], start.look)
        try:
            while not future.done():
                yield Wait(future=future, seconds=_SERVICE_SECONDS, deadline=deadline)
                if not future.done():
                    deadline.check()
                    if start.first is None:
                        self._check_begun(service, bot_id, start_id)
            future.result()
        finally:
            future.cancel()
        first = start.first
        if first is not None and first["Status"]["State"] == "running" and self._containers.has_ended(first):
            yield from self._until(service["Spec"]["Name"], start.look_for_end(_TOLD_SECONDS))
            first = start.first or first
        if first is not None and has_ended(first):
            if first["Status"]["State"] == "shutdown" and not container_of(first):
                self._check_begun(service, bot_id, start_id)
            self._check_run(first)
        elif start.unplaced and first is not None:
            node = pinned_node(service)
            self._services.check_reachable({node} if node else set(), _NO_START, bot_id)
            text = str(first["Status"].get("Err"))
            raise StartFailed(text, Run(error=text))
        elif first is None or not may_run(first):
            raise EngineTimeoutError(f"the bot has not started within {START_SECONDS:g} s", bot_id=bot_id)
        return start.image_checked and not is_checked(service)

    def await_end(
        self, service: Json, tasks: Sequence[Json], bot_id: str, ending: Ending | None, restarts: int, *, what: str
    ) -> Operation[tuple[Run | None, list[Json]]]:
        """Wait until the swarm tells of no container of the service that may run.

        How the last run ended, ``None``: nothing ran; and the tasks that were forgotten before they were seen to have
        ended. ``tasks``: as they were before. Raises :class:`NodeUnavailableError`, with ``what`` as of
        :meth:`BotServices.check_reachable`, when a container may run on a node that cannot be reached.
        """
        end = ServiceEnd(service["ID"], tasks)
        yield from self._until(service["Spec"]["Name"], self._looking_at_nodes(end, what, bot_id, ending), ending)
        run = None if end.last is None else self._ended(end.last, end.start_ns, restarts)
        return run, end.unseen()

    def await_gone(self, service_id: str, bot_id: str, what: str) -> Operation[list[Json]]:
        """Wait until no task of the service is left: those that were forgotten before they were seen to have ended.

        Raises as :meth:`await_end`.
        """
        gone = ServiceGone(service_id)
        yield from self._until(container_name(bot_id), self._looking_at_nodes(gone, what, bot_id, None))
        return gone.unseen()

    def await_forgotten(self, service: Json, bot_id: str) -> Operation[None]:
        """Wait until the swarm has forgotten the tasks of the service that are not wanted any more."""
        if self._services.now(service, bot_id, Deadline()) is None:
            # Another service has removed it.
            return
        ends = time.monotonic() + END_SECONDS

        def look(tasks: list[Json]) -> bool:
            if time.monotonic() > ends:
                raise EngineTimeoutError(f"{_KEPT}: it takes too long", bot_id=bot_id)
            return not any(is_being_forgotten(task) for task in tasks if task["ServiceID"] == service["ID"])

        yield from self._until(service["Spec"]["Name"], look)

    def _until(self, name: str, look: Look, ending: Ending | None = None) -> Operation[None]:
        future = self._watch.until(name, look)
        if ending is not None:
            ending.hurry()
        wait = Wait(future=future) if ending is None else ending.wait(future)
        while not future.done():
            yield wait
        future.result()

    def _looking_at_nodes(self, end: ServiceEnd | ServiceGone, what: str, bot_id: str, ending: Ending | None) -> Look:
        """Its ``look``, which ends with an error when a node is down, or when it takes too long."""
        ends = time.monotonic() + END_SECONDS + (0 if ending is None else ending.grace_seconds)
        looked = time.monotonic()

        def looking(tasks: list[Json]) -> bool:
            nonlocal looked
            if end.look(tasks):
                return True
            now = time.monotonic()
            if now - looked > _NODES_SECONDS:
                looked = now
                self._check_nodes(end.live, what, bot_id)
            if now > ends:
                raise EngineTimeoutError(f"{UNCERTAIN}: it takes too long", bot_id=bot_id)
            return False

        return looking

    def _check_nodes(self, tasks: Sequence[Json], what: str, bot_id: str) -> None:
        """In the thread of all waits."""
        if time.monotonic() - self._unanswered < _NODES_SECONDS:
            return
        try:
            nodes = {task["NodeID"] for task in tasks if task.get("NodeID")}
            self._services.check_reachable(nodes, what, bot_id, Deadline(_NODES_SECONDS))
        except (EngineUnavailableError, EngineTimeoutError):
            # The managers elect a leader; a later look will tell.
            self._unanswered = time.monotonic()

    def _ended(self, task: Json, start_ns: int | None, restarts: int) -> Run:
        node = self._services.node_name(task.get("NodeID", ""))
        if has_ended(task):
            run = run_of(task, restarts, node)
            return replace(run, start_time_ns=start_ns or run.start_time_ns)
        # The swarm forgot it before it was seen to have ended.
        exit_code, finish_ns = self._containers.end_of(task) or (None, time.time_ns())
        return Run(exit_code, start_ns, finish_ns, restart_count=restarts, node=node)

    def _check_begun(self, service: Json, bot_id: str, start_id: str) -> None:
        """Raise an error if somebody else has removed or stopped the bot since this start, or has started it anew."""
        # The managers may elect a leader.
        with suppress(EngineUnavailableError, EngineTimeoutError):
            now = self._services.now(service, bot_id, Deadline(_SERVICE_SECONDS))
            if now is None:
                raise not_found(bot_id)
            if replicas_of(now) == 0 or start_id_of(now) != start_id:
                message = "another call stopped the bot, or started it anew, before this start was done"
                raise OperationInProgressError(message, bot_id=bot_id)

    def _check_run(self, task: Json) -> None:
        """Raise :class:`StartFailed` if the task, which has ended, never ran its program, or :class:`StartNotKnown`."""
        run = run_of(task)
        if run.error:
            raise StartFailed(run.error, run)
        if run.exit_code not in _INIT_EXIT_CODES:
            return
        try:
            text = self._containers.words_of_init(task)
        except EngineUnavailableError as exc:
            raise StartNotKnown from exc
        if text:
            raise StartFailed(text, Run(error=text))
