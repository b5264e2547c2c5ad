"""Reads tasks again and again for all operations that wait for some, with one request at a time.

A task that has ended is forgotten within a quarter of a second, so it is looked for several times in that.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

from container_manager.backends.bot_container import bot_id_of
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import CapacityExceededError
from container_manager.model import container_name

Json = dict[str, Any]

_PAUSE_SECONDS = 0.04
# A manager that is slow is left most of its time.
_PAUSE_FACTOR = 2.0
_LOOK_SECONDS = 5.0


class TaskWatch:
    """For any number of threads. One thread of its own runs while somebody waits."""

    def __init__(self, engine: SwarmClient) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[list[Json]]]] = {}
        self._thread: threading.Thread | None = None

    def next(self, name: str) -> Future[list[Json]]:
        """The tasks of the services of this name, read after this call. Raises ``Engine…Error`` kinds."""
        future: Future[list[Json]] = Future()
        with self._lock:
            self._waiting.setdefault(name, []).append(future)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="swarm tasks", daemon=True)
                try:
                    thread.start()
                except RuntimeError as exc:
                    del self._waiting[name]
                    raise CapacityExceededError("the machine has no thread to spare; try again later") from exc
                self._thread = thread
        return future

    def _run(self) -> None:
        idle_rounds = 0
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                # Those who wait look at what they got and come again.
                idle_rounds = 0 if waiting else idle_rounds + 1
                if idle_rounds > 2:
                    self._thread = None
                    return
            began = time.monotonic()
            if waiting:
                self._look(waiting)
            time.sleep(max(_PAUSE_SECONDS, _PAUSE_FACTOR * (time.monotonic() - began)))

    def _look(self, waiting: dict[str, list[Future[list[Json]]]]) -> None:
        try:
            tasks = self._engine.list_tasks(Deadline(_LOOK_SECONDS), name=list(waiting))
        except EngineRejectedError as exc:
            self._fail(waiting, engine_error(exc))
        except BaseException as exc:  # noqa: BLE001 - a future carries any outcome to those who wait
            self._fail(waiting, exc)
        else:
            for name, futures in waiting.items():
                found = [task for task in tasks if _name_of(task) == name]
                for future in futures:
                    future.set_result(found)

    def _fail(self, waiting: dict[str, list[Future[list[Json]]]], problem: BaseException) -> None:
        for futures in waiting.values():
            for future in futures:
                future.set_exception(problem)


def _name_of(task: Json) -> str:
    return container_name(bot_id_of(task["Spec"]["ContainerSpec"].get("Labels")))
