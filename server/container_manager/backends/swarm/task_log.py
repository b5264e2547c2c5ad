"""The log of one task. Its manager asks the task's node for it, and says nothing while that does not answer.

A request for existing entries ends once the node has sent them all. One that follows never ends, also when the task has
ended (swarmkit, ``manager/logbroker/subscription.go``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from container_manager.backend import LogUnreadableError
from container_manager.backends.engine_log import EngineLog
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.status import has_ended, is_down, node_name
from container_manager.engine.async_client import AsyncEngineClient, Readable
from container_manager.errors import EngineTimeoutError, NodeUnavailableError
from container_manager.model import RawEntry

Json = dict[str, Any]

SILENCE_SECONDS = 3.0
"""A node that has not sent the next existing entries after this time is cut off or dead."""

_LOOK_SECONDS = 0.5
# What the manager says of a node that it has lost.
_NODE_LOST = ("is not available", "disconnected unexpectedly")


class TaskLog(EngineLog):
    """As :class:`EngineLog`; raises :class:`NodeUnavailableError` while nothing is heard of the task's node."""

    def __init__(self, manager: AsyncEngineClient, source: SwarmSource, task: Json, node: str) -> None:
        """``node``: the name of the task's node."""
        super().__init__(manager, f"/tasks/{task['ID']}", task["ServiceID"], silence_seconds=SILENCE_SECONDS)
        self.task_id: str = task["ID"]
        self._source = source
        self._node = node

    async def existing(self, tail: int | None = None) -> AsyncGenerator[list[RawEntry], None]:
        try:
            async with aclosing(super().existing(tail)) as batches:
                async for batch in batches:
                    yield batch
        except EngineTimeoutError as exc:
            raise self._unavailable() from exc
        except LogUnreadableError as exc:
            if any(phrase in str(exc) for phrase in _NODE_LOST):
                raise self._unavailable() from exc
            raise

    @asynccontextmanager
    async def opened(self, *, follow: bool, tail: int | None) -> AsyncIterator[Readable]:
        began = asyncio.get_running_loop().time()
        async with super().opened(follow=follow, tail=tail) as stream:
            yield _UntilEnd(stream, self, began) if follow else stream

    def has_ended(self, since: float) -> bool:
        """Whether a poll of the manager since then has shown that the task has ended, or is on a node that is down."""
        snapshot = self._source.snapshot
        if snapshot.updated is None or snapshot.updated < since:
            return False
        task = snapshot.tasks.documents.get(self.task_id)
        if task is None or has_ended(task):
            return True
        node = snapshot.nodes.documents.get(task.get("NodeID", ""))
        return node is not None and is_down(node)

    def _unavailable(self) -> NodeUnavailableError:
        message = f"node {self._node} does not send the log of the bot that is on it; try again when it is back"
        return NodeUnavailableError(message, node=self._node)


class _UntilEnd:
    """A followed log that ends a moment after its task."""

    def __init__(self, stream: Readable, log: TaskLog, began: float) -> None:
        self._stream = stream
        self._log = log
        self._began = began

    async def read(self) -> bytes:
        """The next available bytes; empty at the end."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await self._stream.read()
            except TimeoutError:
                if self._log.has_ended(self._began):
                    return b""


def name_of_node(nodes: Any, node_id: str) -> str:
    """The node's name, or its id while that is all that is known."""
    return node_name(nodes.get(node_id, {})) or node_id
