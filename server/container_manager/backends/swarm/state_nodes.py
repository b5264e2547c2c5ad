"""Which node has a bot's state, where states are on single nodes: a label of the node tells.

The state outlives the bot's service, which is all that the swarm knows of the bot. A node that leaves the swarm takes
its states with it, and its labels too.
"""

from __future__ import annotations

import secrets as random
import threading
from collections.abc import Iterable
from typing import Any

from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineUnavailableError
from container_manager.operation import Operation, Wait

Json = dict[str, Any]

PREFIX = "botmaker.state."
"""Of the label; the bot's id follows."""
_PATIENCE_SECONDS = 20.0
_PAUSE_MILLISECONDS = 100


class StateNodes:
    """Of one swarm, for any number of threads and services."""

    def __init__(self, engine: SwarmClient) -> None:
        self._engine = engine
        # By node: each update of a node makes all others fail that were begun before.
        self._locks: dict[str, threading.Lock] = {}

    def find(self, bot_id: str, deadline: Deadline) -> Json | None:
        """The node that has the bot's state; ``None``: the bot has none."""
        return node_with_state(bot_id, self.all(deadline))

    def all(self, deadline: Deadline) -> list[Json]:
        """All nodes, as they are now."""
        try:
            return self._engine.list_nodes(deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def keep(self, bot_id: str, node_id: str) -> Operation[None]:
        """Remember that the node has, or is about to have, the bot's state.

        Raises :class:`EngineUnavailableError` if it finds no gap between the changes of the node by others.
        """
        return self._mark(bot_id, node_id, marked=True)

    def forget(self, bot_id: str, node_id: str) -> Operation[None]:
        """The node has no state of the bot any more. Raises as :meth:`keep`."""
        return self._mark(bot_id, node_id, marked=False)

    def _mark(self, bot_id: str, node_id: str, *, marked: bool) -> Operation[None]:
        label, patience = PREFIX + bot_id, Deadline(_PATIENCE_SECONDS)
        if self._to_mark(node_id, label, marked=marked) is None:
            return
        lock = self._locks.setdefault(node_id, threading.Lock())
        while patience.remaining():
            # No thread waits for the lock: a manager that is slow would hold one for each bot.
            if lock.acquire(blocking=False):
                try:
                    node = self._to_mark(node_id, label, marked=marked)
                    if node is None or self._engine.update_node(node, _marked(node, label, marked=marked)):
                        return
                except EngineRejectedError as exc:
                    raise engine_error(exc, bot_id) from exc
                finally:
                    lock.release()
            # Other services, and the swarm itself, change the node too.
            yield Wait(seconds=random.randbelow(_PAUSE_MILLISECONDS) / 1000)
        raise EngineUnavailableError("others keep changing the node of the bot's state; try again later", bot_id=bot_id)

    def _to_mark(self, node_id: str, label: str, *, marked: bool) -> Json | None:
        """The node, as it is now; ``None``: it is marked as it is to be, or has left the swarm."""
        node = next((each for each in self.all(Deadline()) if each["ID"] == node_id), None)
        return None if node is None or (label in _labels(node)) is marked else node


def node_with_state(bot_id: str, nodes: Iterable[Json]) -> Json | None:
    """The one of these nodes that has the bot's state; ``None``: none of them has it."""
    return next((node for node in nodes if PREFIX + bot_id in _labels(node)), None)


def _marked(node: Json, label: str, *, marked: bool) -> Json:
    """The node's specification with or without the label."""
    others = {key: value for key, value in _labels(node).items() if key != label}
    return {**node["Spec"], "Labels": {**others, **({label: "true"} if marked else {})}}


def _labels(node: Json) -> Json:
    return node["Spec"].get("Labels") or {}
