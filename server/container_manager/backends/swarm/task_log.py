"""The log of one task, as its node's own engine has it where the operator names that, and else through a manager.

A manager asks the task's node for it, and says nothing while that does not answer. It may get no log from a node that
has connected to it anew, until the engine of that node is restarted (swarmkit, ``manager/logbroker/broker.go``).

A request for existing entries ends once the node has sent them all. One that follows never ends, also when the task has
ended (swarmkit, ``manager/logbroker/subscription.go``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

from container_manager.backend_logs import LogUnreadableError
from container_manager.backends.engine_log import EngineLog
from container_manager.backends.swarm.bot_services import of_node
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.status import is_down, node_name
from container_manager.backends.swarm.tasks import container_of, has_ended
from container_manager.engine.async_client import AsyncEngineClient, Readable
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    NodeUnavailableError,
)
from container_manager.model import RawEntry

Json = dict[str, Any]

SILENCE_SECONDS = 3.0
"""A node that has not sent the next existing entries after this time is cut off or dead."""

_LOOK_SECONDS = 0.5
# A node's engine that does not answer within this time is not asked for the log.
_ASK_SECONDS = 1.0
_LEFT_OUT_SECONDS = 30.0
# What the manager says of a node that it has lost.
_NODE_LOST = ("is not available", "disconnected unexpectedly")


class LogEngines:
    """Nodes' own engines, for logs. One that does not answer is left out for a while."""

    def __init__(self, engines: Mapping[str, AsyncEngineClient]) -> None:
        """``engines``: by the nodes' host names or ids, as far as the operator names them."""
        self._engines = engines
        # The loop's time until which each is left out.
        self._left_out: dict[AsyncEngineClient, float] = {}

    def of(self, node_id: str, name: str) -> AsyncEngineClient | None:
        """The engine of a node; ``None``: none is named, or it has not answered."""
        engine = of_node(self._engines, node_id, name)
        now = asyncio.get_running_loop().time()
        return None if engine is None or self._left_out.get(engine, now) > now else engine

    def leave_out(self, engine: AsyncEngineClient) -> None:
        """Leave out an engine that has not answered."""
        self._left_out[engine] = asyncio.get_running_loop().time() + _LEFT_OUT_SECONDS


class TaskLog(EngineLog):
    """As :class:`EngineLog`; raises :class:`NodeUnavailableError` while nothing is heard of the task's node."""

    def __init__(
        self,
        manager: AsyncEngineClient,
        source: SwarmSource,
        task: Json,
        node: str,
        engines: LogEngines,
    ) -> None:
        """``node``: the name of the task's node."""
        super().__init__(manager, f"/tasks/{task['ID']}", task["ServiceID"], silence_seconds=SILENCE_SECONDS)
        self.task_id: str = task["ID"]
        self._source = source
        self._node = node
        self._engines = engines
        self._own = engines.of(task.get("NodeID", ""), node)
        self._container = f"/containers/{container_of(task)}"

    @property
    def _is_own(self) -> bool:
        """Whether it is read through the node's own engine."""
        return self._path == self._container

    async def existing(
        self, tail: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        try:
            async with aclosing(super().existing(tail, until_ns)) as batches:
                async for batch in batches:
                    yield batch
        except EngineTimeoutError as exc:
            raise self._unavailable() from exc
        except LogUnreadableError as exc:
            if any(phrase in str(exc) for phrase in _NODE_LOST):
                raise self._unavailable() from exc
            raise

    @asynccontextmanager
    async def opened(self, *, follow: bool, tail: int | None, until_ns: int | None = None) -> AsyncIterator[Readable]:
        began = asyncio.get_running_loop().time()
        await self._choose()
        try:
            async with super().opened(follow=follow, tail=tail, until_ns=until_ns) as stream:
                yield _UntilEnd(stream, self, began) if follow else stream
        except EngineUnavailableError as exc:
            if self._is_own and not isinstance(exc, LogUnreadableError):
                raise self._unavailable() from exc
            raise

    def is_cut_off(self, since: float) -> bool:
        """Whether a poll of the manager since then has shown that the task is on a node that is down."""
        if not self._is_polled(since):
            return False
        task = self._source.snapshot.tasks.documents.get(self.task_id, {})
        node = self._source.snapshot.nodes.documents.get(task.get("NodeID", ""))
        return node is not None and is_down(node)

    def has_ended(self, since: float) -> bool:
        """Whether a poll of the manager since then has shown that the task has ended."""
        if not self._is_polled(since):
            return False
        task = self._source.snapshot.tasks.documents.get(self.task_id)
        return task is None or has_ended(task)

    def _is_polled(self, since: float) -> bool:
        updated = self._source.snapshot.updated
        return updated is not None and updated >= since

    async def _choose(self) -> None:
        """Read through the node's own engine if that has the container."""
        engine, self._own = self._own, None
        if engine is None:
            return
        try:
            await engine.get_json(f"{self._container}/json", timeout_seconds=_ASK_SECONDS)
        except EngineRejectedError:
            return
        except ContainerManagerError:
            self._engines.leave_out(engine)
            return
        self._engine, self._path = engine, self._container

    def _error(self, exc: EngineRejectedError) -> ContainerManagerError:
        if self._is_own and exc.status == HTTPStatus.CONFLICT:
            # The swarm removes the containers of tasks that it forgets.
            return ContainerNotFoundError(f"the container is gone: {exc.text}", container_id=self._container_id)
        return super()._error(exc)

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
        while not self._log.is_cut_off(self._began):
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await self._stream.read()
            except TimeoutError:
                if self._log.has_ended(self._began):
                    break
        return b""


def name_of_node(nodes: Any, node_id: str) -> str:
    """The node's name, or its id while that is all that is known."""
    return node_name(nodes.get(node_id, {})) or node_id
