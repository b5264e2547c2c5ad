"""The log of a bot on a swarm: the logs of its tasks, one after another, as they were created.

The swarm keeps five tasks of a service, and none of one that was stopped. A log goes back to the oldest task from which
on all can be read: one that is on a node of which nothing is heard, and those before it, have dropped out of the log.
A follower that has read from them goes on behind them with a gap, and receives nothing twice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from container_manager.backend_logs import Batches
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.status import is_down
from container_manager.backends.swarm.task_log import LogEngines, TaskLog, name_of_node
from container_manager.backends.swarm.tasks import container_of, in_order, may_run
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.errors import ContainerManagerError, ContainerNotFoundError, NodeUnavailableError

Json = dict[str, Any]


# A node that does not answer is seen to be down after 10 s. Until then, each attempt takes seconds.
_FAILED_SECONDS = 5.0


class _Part(NamedTuple):
    """A task's entries that belong to a reading."""

    log: TaskLog
    tail: int | None
    """The last ones; ``None``: all."""
    first: int | None = None
    """Of those, the first ones; ``None``: all."""


class ServiceLog:
    """A :class:`~container_manager.backend_logs.ContainerLog`."""

    def __init__(
        self,
        manager: AsyncEngineClient,
        source: SwarmSource,
        container_id: str,
        engines: LogEngines,
    ) -> None:
        self._manager = manager
        self._source = source
        self._container_id = container_id
        self._engines = engines
        self.was_opened = False
        # Tasks whose logs could be read, and when those of others could not.
        self._readable: set[str] = set()
        self._failed: dict[str, float] = {}

    async def runs(self) -> bool:
        tasks = await self._tasks()
        return bool(tasks) and may_run(tasks[-1])

    async def existing(self, tail: int | None = None, until_ns: int | None = None) -> Batches:  # noqa: ARG002
        for part in await self._parts(tail):
            async with aclosing(self._read(part)) as batches:
                async for batch in batches:
                    yield batch
        self.was_opened = True

    async def follow(self, tail: int | None = None, *, known: int = 0) -> Batches:
        parts = await self._parts(tail)
        for part in parts[:-1]:
            async with aclosing(self._read(part)) as batches:
                async for batch in batches:
                    known -= len(batch)
                    yield batch
        for log, last, _ in parts[-1:]:
            # If the swarm has forgotten the task meanwhile, there is nothing to follow.
            with suppress(ContainerNotFoundError):
                async with aclosing(log.follow(last, known=known)) as batches:
                    async for batch in batches:
                        yield batch

    async def _parts(self, tail: int | None) -> list[_Part]:
        """What gives the last ``tail`` entries, oldest first."""
        logs = await self._logs()
        parts: list[_Part] = []
        left = tail
        for log in reversed(logs):
            if parts and not await self._can_be_read(log):
                break
            if left is None or len(logs) == 1:
                parts.insert(0, _Part(log, left))
                continue
            count = await self._count(log, left)
            # A task that runs may write on meanwhile.
            parts.insert(0, _Part(log, left) if count >= left else _Part(log, None, count))
            left -= count
            if left <= 0:
                break
        return parts

    async def _logs(self) -> list[TaskLog]:
        """The logs of the tasks that have one, oldest first, behind the last one whose node is down.

        Raises :class:`NodeUnavailableError` if that is the newest one.
        """
        nodes = await self._source.nodes()
        tasks = [task for task in await self._tasks() if container_of(task)]
        logs: list[TaskLog] = []
        for task in reversed(tasks):
            node_id = task.get("NodeID", "")
            name = name_of_node(nodes, node_id)
            if _is_down(nodes, node_id):
                if not logs:
                    raise NodeUnavailableError(f"node {name}, which has the bot's log, cannot be reached", node=name)
                break
            logs.insert(0, TaskLog(self._manager, self._source, task, name, self._engines))
        return logs

    async def _tasks(self) -> list[Json]:
        """The service's tasks, oldest first."""
        tasks = await self._source.manager.tasks(self._container_id)
        if not tasks and await self._source.manager.service(self._container_id) is None:
            raise ContainerNotFoundError("the container is gone", container_id=self._container_id)
        return in_order(tasks)

    async def _read(self, part: _Part) -> Batches:
        left = part.first
        if left == 0:
            # It may write meanwhile.
            return
        try:
            async with aclosing(part.log.existing(part.tail)) as batches:
                async for batch in batches:
                    self.was_opened = True
                    yield batch if left is None else batch[:left]
                    left = None if left is None else left - len(batch)
                    if left is not None and left <= 0:
                        return
        except ContainerNotFoundError:
            pass  # the swarm has forgotten the task meanwhile

    async def _count(self, log: TaskLog, most: int) -> int:
        count = 0
        async with aclosing(self._read(_Part(log, most))) as batches:
            async for batch in batches:
                count += len(batch)
        return count

    async def _can_be_read(self, log: TaskLog) -> bool:
        """Whether the log of a task that is not the newest can be read."""
        now = asyncio.get_running_loop().time
        if log.task_id not in self._readable:
            if now() - self._failed.get(log.task_id, -math.inf) < _FAILED_SECONDS:
                return False
            try:
                await self._count(log, 1)
            except ContainerManagerError:
                self._failed[log.task_id] = now()
                return False
            self._readable.add(log.task_id)
        return True


def _is_down(nodes: Mapping[str, Json], node_id: str) -> bool:
    return node_id in nodes and is_down(nodes[node_id])
