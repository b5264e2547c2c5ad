"""What the container of a task shows on its node, through the node's own engine if that is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from container_manager.backends.swarm.bot_services import BotServices, of_node
from container_manager.backends.swarm.tasks import container_of
from container_manager.deadline import Deadline
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, EngineUnavailableError

Json = dict[str, Any]

_LAST_LINES = 5
_SECONDS = 1.0


class TaskContainers:
    """Of one swarm, for any number of threads."""

    def __init__(self, engine: SwarmClient, services: BotServices, calls: Mapping[str, LongCalls]) -> None:
        """``calls``: to nodes' own engines, by the nodes' host names or ids."""
        self._engine = engine
        self._services = services
        self._calls = calls

    def words_of_init(self, task: Json) -> str:
        """What the container's init process says about a program that it cannot run; empty: it ran one.

        Raises :class:`EngineUnavailableError` while nobody has its log.
        """
        for read in (self._lines_of_node, self._lines_of_manager):
            with suppress(EngineRejectedError, ContainerManagerError, CancelledError):
                return self._words_of_init(read(task))
        raise EngineUnavailableError("neither the engine of the task's node nor a manager has its log")

    @staticmethod
    def _words_of_init(log: bytes) -> str:
        lines = [line for line in log.decode("utf-8", "replace").splitlines() if "[FATAL tini (" in line]
        _, _, text = lines[-1].partition("] ") if lines else ("", "", "")
        program, _, problem = text.removeprefix("exec ").partition(" failed: ")
        return f'the container\'s init could not exec: "{program}": {problem.lower()}' if problem else ""

    def has_ended(self, task: Json) -> bool:
        """Whether the engine of its node, if it is named, says that its container has ended."""
        with suppress(EngineRejectedError, ContainerManagerError, CancelledError):
            return not json.loads(self._of_container(task, "json", {}))["State"]["Running"]
        return False

    def end_of(self, task: Json) -> tuple[int, int] | None:
        """The exit code and the finish time, in nanoseconds since the epoch, of a container that its node has removed.

        Each engine remembers its last 256 events. ``None``: it is not named, or does not tell.
        """
        if not (container_id := container_of(task)):
            return None
        filters = json.dumps({"container": [container_id], "event": ["die"]})
        with suppress(EngineRejectedError, ContainerManagerError, CancelledError, LookupError, ValueError):
            # Until now by its own clock: it would wait for what is to come.
            now = time_ns(json.loads(self._of_node(task, "/info"))["SystemTime"]) or 0
            params = {"since": "1", "until": f"{now // 10**9}.{now % 10**9:09}", "filters": filters}
            event = json.loads(self._of_node(task, "/events", params).splitlines()[-1])
            return int(event["Actor"]["Attributes"]["exitCode"]), int(event["timeNano"])
        return None

    def _lines_of_manager(self, task: Json) -> bytes:
        """The last lines of its log, in the engine's frames."""
        return self._engine.task_log(task["ID"], _LAST_LINES, Deadline(_SECONDS))

    def _lines_of_node(self, task: Json) -> bytes:
        """The same from the engine of its node, which always has them. Raises as :meth:`_of_node`."""
        return self._of_container(task, "logs", {"stdout": "1", "stderr": "1", "tail": str(_LAST_LINES)})

    def _of_container(self, task: Json, what: str, params: Mapping[str, str]) -> bytes:
        """What the engine of its node has of its container. Raises as :meth:`_of_node`."""
        return self._of_node(task, f"/containers/{container_of(task)}/{what}", params)

    def _of_node(self, task: Json, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """A response of the engine of its node. Raises an error also if that engine is not named."""
        node_id = task.get("NodeID", "")
        calls = of_node(self._calls, node_id, self._services.node_name(node_id) if self._calls else "")
        if calls is None:
            raise EngineUnavailableError("the engine of the node is not named")
        return calls.submit(calls.engine.get_bytes(path, params, timeout_seconds=_SECONDS)).result()
