"""Looks at bots' tasks until what an operation waits for is so, with one request at a time for all operations.

A task that has ended is forgotten within a quarter of a second, so it is looked for several times in that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from container_manager.backends.bot_container import bot_id_of
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import CapacityExceededError
from container_manager.model import container_name

Json = dict[str, Any]
Look = Callable[[list[Json]], bool]
"""Called with the tasks of a service's name, in the watch's thread; True: it is so. Raises what the wait ends with."""

_PAUSE_SECONDS = 0.04
# A manager that is slow is left half of its time.
_PAUSE_FACTOR = 1.0
_LOOK_SECONDS = 5.0
NO_ANSWER_SECONDS = 30.0
"""How long managers may give no answer, such as while they elect a leader, before waits end with the error."""


@dataclass(eq=False)
class _Waiter:
    name: str
    look: Look
    future: Future[None] = field(default_factory=Future)
    answered: float = field(default_factory=time.monotonic)
    """When the manager last answered, or the wait began."""


class TaskWatch:
    """For any number of threads. One thread of its own runs while somebody waits."""

    def __init__(self, engine: SwarmClient) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._thread: threading.Thread | None = None

    def until(self, name: str, look: Look) -> Future[None]:
        """Look at the tasks of the services of this name, also of those that are gone, until ``look`` is True.

        The future also raises ``Engine…Error`` kinds. Whoever cancels it ends the looks.
        """
        waiter = _Waiter(name, look)
        with self._lock:
            self._waiters.append(waiter)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="swarm tasks", daemon=True)
                try:
                    thread.start()
                except RuntimeError as exc:
                    self._waiters.remove(waiter)
                    raise CapacityExceededError("the machine has no thread to spare; try again later") from exc
                self._thread = thread
        return waiter.future

    def _run(self) -> None:
        while True:
            with self._lock:
                waiters = list(self._waiters)
                if not waiters:
                    self._thread = None
                    return
            began = time.monotonic()
            self._look(waiters)
            with self._lock:
                self._waiters = [waiter for waiter in self._waiters if not waiter.future.done()]
            time.sleep(max(_PAUSE_SECONDS, _PAUSE_FACTOR * (time.monotonic() - began)))

    def _look(self, waiters: list[_Waiter]) -> None:
        try:
            tasks = self._engine.list_tasks(Deadline(_LOOK_SECONDS), name=list({waiter.name for waiter in waiters}))
        except EngineRejectedError as exc:
            _bear(waiters, engine_error(exc))
            return
        except Exception as exc:  # noqa: BLE001 - a future carries any outcome to those who wait
            _bear(waiters, exc)
            return
        for waiter in waiters:
            waiter.answered = time.monotonic()
            try:
                if waiter.look([task for task in tasks if _name_of(task) == waiter.name]):
                    _end(waiter, None)
            except Exception as exc:  # noqa: BLE001 - as above
                _end(waiter, exc)


def _bear(waiters: list[_Waiter], problem: Exception) -> None:
    for waiter in waiters:
        if time.monotonic() - waiter.answered > NO_ANSWER_SECONDS:
            _end(waiter, problem)


def _end(waiter: _Waiter, problem: Exception | None) -> None:
    # It may be cancelled at any moment.
    with suppress(InvalidStateError):
        if problem is None:
            waiter.future.set_result(None)
        else:
            waiter.future.set_exception(problem)


def _name_of(task: Json) -> str:
    return container_name(bot_id_of(task["Spec"]["ContainerSpec"].get("Labels")))
