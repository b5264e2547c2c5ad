"""Waits for the tasks of a bot: for the outcome of a start, and for the end of what runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.records import Run
from container_manager.backends.swarm.status import has_ended, may_run, pinned_node, run_of
from container_manager.backends.swarm.task_watch import TaskWatch
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, EngineTimeoutError, EngineUnavailableError
from container_manager.model import container_name
from container_manager.operation import Operation, Wait

Json = dict[str, Any]

START_SECONDS = 600.0
"""How long a start may take: its node may have to pull the image first."""
END_SECONDS = 60.0
"""How long the end of a container may take, beyond its grace period."""
_UNPLACED_SECONDS = 2.0
"""How long a start waits for a node that can take the bot."""
_CHECKED_SECONDS = 1.0
"""A container that is starting for so long runs already, and has not passed its health check."""
_SETTLED_SECONDS = 0.2
"""A program that is missing is told by the container's init process, in its exit code, right after the start."""
_NO_ANSWER_SECONDS = 30.0
"""How long the managers may be without a leader."""
_NODES_SECONDS = 0.5
_INIT_EXIT_CODES = (126, 127)


class StartFailed(Exception):  # noqa: N818 - never leaves this package
    """The first run of a start has failed: the engine's own text, and the run."""

    def __init__(self, text: str, run: Run) -> None:
        super().__init__(text)
        self.text = text
        self.run = run


@dataclass
class _Patience:
    """Bears errors for a while: a leader may be elected just now."""

    since: float | None = None

    def bear(self, problem: ContainerManagerError) -> None:
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        if now - self.since > _NO_ANSWER_SECONDS:
            raise problem


@dataclass
class _Seen:
    """Since when each thing has been so."""

    times: dict[str, float] = field(default_factory=dict)

    def for_seconds(self, what: str, *, so: bool) -> float:
        """How long it has been so; 0: it is not."""
        if not so:
            self.times.pop(what, None)
            return 0.0
        return time.monotonic() - self.times.setdefault(what, time.monotonic())


class Runs:
    """Of the bots of one swarm, for any number of threads."""

    def __init__(self, engine: SwarmClient, services: BotServices, watch: TaskWatch) -> None:
        self._engine = engine
        self._services = services
        self._watch = watch

    def await_start(self, service: Json, bot_id: str, until_ns: int) -> Operation[None]:
        """Wait for the first run of the service's newest start. ``until_ns``: earlier tasks do not count.

        Raises :class:`StartFailed`, and :class:`EngineTimeoutError` after ten minutes.
        """
        began, seen = time.monotonic(), _Seen()
        settled = _SETTLED_SECONDS if service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Args") else 0.0
        while time.monotonic() - began < START_SECONDS:
            tasks = yield from self._tasks(service["Spec"]["Name"])
            first = _first(tasks, service["ID"], until_ns)
            state = "" if first is None else first["Status"]["State"]
            runs = seen.for_seconds("running", so=state == "running")
            if first is None:
                seen.for_seconds("unplaced", so=False)
            elif has_ended(first):
                self._check_run(first)
                return
            elif (state == "running" and runs >= settled) or (
                seen.for_seconds("starting", so=_has_container(first)) >= _CHECKED_SECONDS
            ):
                return
            elif seen.for_seconds("unplaced", so=_is_unplaced(first)) > _UNPLACED_SECONDS:
                self._services.check_reachable(_pinned(service), "the bot cannot be started", bot_id)
                text = str(first["Status"].get("Err"))
                raise StartFailed(text, Run(error=text))
        raise EngineTimeoutError(f"the bot has not started within {START_SECONDS:g} s", bot_id=bot_id)

    def await_end(self, service: Json, bot_id: str, grace_seconds: float, restarts: int) -> Operation[Run | None]:
        """Wait until no container of the service may run. How the last run ended; ``None``: nothing ran.

        Raises :class:`NodeUnavailableError` when a container may run on a node that cannot be reached.
        """
        last: Json | None = None
        start_ns: int | None = None
        nodes_looked = time.monotonic()
        limit = time.monotonic() + grace_seconds + END_SECONDS
        while True:
            tasks = yield from self._tasks(service["Spec"]["Name"])
            tasks = [task for task in tasks if task["ServiceID"] == service["ID"]]
            live = [task for task in tasks if not has_ended(task)]
            for task in tasks:
                if may_run(task):
                    start_ns = (
                        time_ns(task["Status"].get("Timestamp")) if task["Status"]["State"] == "running" else None
                    )
                if has_ended(task) or may_run(task):
                    last = task
            if not live:
                return None if last is None else self._ended(last, start_ns, restarts)
            now = time.monotonic()
            if now - nodes_looked > _NODES_SECONDS:
                nodes_looked = now
                self._check_nodes(live, "it is not certain that the bot has ended", bot_id)
            if now > limit:
                raise EngineTimeoutError("the bot's container has not ended in time", bot_id=bot_id)

    def await_gone(self, bot_id: str, grace_seconds: float) -> Operation[None]:
        """Wait until no task of the bot is left. Raises as :meth:`await_end`."""
        nodes_looked = float("-inf")
        limit = time.monotonic() + grace_seconds + END_SECONDS
        while tasks := (yield from self._tasks(container_name(bot_id))):
            now = time.monotonic()
            if now - nodes_looked > _NODES_SECONDS:
                nodes_looked = now
                self._check_nodes(tasks, "it is not certain that the bot is gone", bot_id)
            if now > limit:
                raise EngineTimeoutError("the bot's container is not gone in time", bot_id=bot_id)

    def _tasks(self, name: str) -> Operation[list[Json]]:
        patience = _Patience()
        while True:
            future = self._watch.next(name)
            while not future.done():
                yield Wait(future=future)
            try:
                return future.result()
            except (EngineUnavailableError, EngineTimeoutError) as exc:
                patience.bear(exc)

    def _check_nodes(self, tasks: Sequence[Json], what: str, bot_id: str) -> None:
        try:
            self._services.check_reachable({task["NodeID"] for task in tasks if task.get("NodeID")}, what, bot_id)
        except (EngineUnavailableError, EngineTimeoutError):
            return  # the managers elect a leader; the next look will tell

    def _ended(self, task: Json, start_ns: int | None, restarts: int) -> Run:
        node = self._services.node_name(task.get("NodeID", ""))
        if has_ended(task):
            run = run_of(task, restarts, node)
            return replace(run, start_time_ns=start_ns or run.start_time_ns)
        # The swarm forgot it before it was seen to have ended.
        return Run(start_time_ns=start_ns, finish_time_ns=time.time_ns(), restart_count=restarts, node=node)

    def _check_run(self, task: Json) -> None:
        """Raise :class:`StartFailed` if the task, which has ended, never ran its program."""
        run = run_of(task)
        if run.error:
            raise StartFailed(run.error, run)
        if run.exit_code in _INIT_EXIT_CODES and (text := self._words_of_init(task["ID"])):
            raise StartFailed(text, Run(error=text))

    def _words_of_init(self, task_id: str) -> str:
        """What the container's init process says about a program that it cannot run; empty: it ran one."""
        try:
            log = self._engine.task_log(task_id, 5, Deadline(_CHECKED_SECONDS))
        except (EngineRejectedError, ContainerManagerError):
            return ""
        lines = [line for line in log.decode("utf-8", "replace").splitlines() if "[FATAL tini (" in line]
        _, _, text = lines[-1].partition("] ") if lines else ("", "", "")
        program, _, problem = text.removeprefix("exec ").partition(" failed: ")
        return f'the container\'s init could not exec: "{program}": {problem.lower()}' if problem else ""


def _first(tasks: Sequence[Json], service_id: str, until_ns: int) -> Json | None:
    """The first run of a start."""
    new = [task for task in tasks if task["ServiceID"] == service_id and (time_ns(task["CreatedAt"]) or 0) > until_ns]
    return min(new, key=lambda task: (time_ns(task["CreatedAt"]) or 0, task["ID"]), default=None)


def _has_container(task: Json) -> bool:
    status = task["Status"]
    return status["State"] == "starting" and bool((status.get("ContainerStatus") or {}).get("ContainerID"))


def _is_unplaced(task: Json) -> bool:
    return task["Status"]["State"] == "pending" and bool(task["Status"].get("Err"))


def _pinned(service: Json) -> set[str]:
    node = pinned_node(service)
    return {node} if node else set()
