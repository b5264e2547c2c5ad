"""Feeds the live view from a swarm's manager, which announces no change of a task: its lists are polled.

One poll is three requests. An answer with the same bytes as the last one is not looked into.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

from container_manager.backend import Listed, Notice
from container_manager.backends.swarm.manager import ManagerReads
from container_manager.backends.swarm.overdue import Overdue
from container_manager.backends.swarm.snapshot import Snapshot, bot_status, by_service
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.errors import EngineUnavailableError
from container_manager.model import ContainerState, ContainerStatus, newest_of_bot

BUSY_SECONDS = 0.25
"""Between two polls while something changes."""
QUIET_SECONDS = 1.0
"""Between two polls else."""
# A start takes its steps in less.
_BUSY_FOR_SECONDS = 2.0
# A node that has failed is noticed by the next poll.
_NODES_SECONDS = 2.0
_STATUSES_AT_ONCE = 25


class SwarmSource:
    """A :class:`~container_manager.backend.Source` that reads one manager."""

    def __init__(self, manager: AsyncEngineClient, overdue: Overdue | None = None) -> None:
        """``overdue`` is shown every poll."""
        self._overdue = overdue
        self.snapshot = Snapshot()
        """What the last poll has shown. It is current while somebody subscribes."""
        self.manager = ManagerReads(manager)
        self._polling = asyncio.Lock()
        self._subscribers: set[asyncio.Queue[Notice]] = set()
        self._changed = -math.inf
        self._took = 0.0

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        """Notices of what has changed since the last poll, be it of an earlier subscription, and from then on."""
        if self.snapshot.updated is None:
            # Nothing has changed so far: the caller lists everything.
            await self._poll()
        notices: asyncio.Queue[Notice] = asyncio.Queue()
        self._subscribers.add(notices)
        try:
            await self._poll()
            yield self._notices(notices)
        finally:
            self._subscribers.discard(notices)

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        """The container's current status; ``None`` when it is gone or not managed."""
        nodes, tasks = await self.nodes(), await self.manager.tasks(container_id)
        return bot_status(await self.manager.service(container_id), tasks, nodes)

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        """The current status of the bot's container: the one with its name, else the newest with its labels."""
        nodes, tasks = await self.nodes(), by_service(await self.manager.tasks_of_bot(bot_id))
        services = {service["ID"]: service for service in await self.manager.services_of_bot(bot_id)}
        keys = services.keys() | tasks.keys()
        return newest_of_bot(bot_id, [bot_status(services.get(key), tasks.get(key, ()), nodes) for key in keys])

    async def _notices(self, notices: asyncio.Queue[Notice]) -> AsyncIterator[Notice]:
        while True:
            while not notices.empty():
                yield notices.get_nowait()
            busy = _now() - self._changed < _BUSY_FOR_SECONDS
            # A manager that is slow to answer is not asked all the time.
            await asyncio.sleep(max((BUSY_SECONDS if busy else QUIET_SECONDS) - self._took, self._took))
            await self._poll()

    async def _poll(self) -> None:
        """Have the snapshot show what is so, and tell the subscribers what has changed."""
        async with self._polling:
            asked = _now()
            # Tasks first, so that no task is taken for one whose service is gone.
            tasks, services, nodes = [await self.manager.list_body(path) for path in ("/tasks", "/services", "/nodes")]
            try:
                notices = await self.snapshot.update(services, tasks, nodes, asked=asked)
            except (ValueError, LookupError, TypeError) as exc:
                self.snapshot = Snapshot()
                message = "the swarm's manager gave an answer that is not understood"
                raise EngineUnavailableError(f"{message}: {type(exc).__name__}: {exc}") from exc
            self._took = _now() - asked
            if self._overdue is not None:
                self._overdue.look(self.snapshot, [notice.container_id for notice in notices])
            if notices:
                self._changed = _now()
                for notice, subscriber in product(notices, self._subscribers):
                    subscriber.put_nowait(notice)

    async def nodes(self) -> Mapping[str, dict[str, Any]]:
        """The nodes as the last poll has shown them; the view learns by a notice that one has changed since."""
        if self.snapshot.updated is not None and _now() - self.snapshot.updated < _NODES_SECONDS:
            return self.snapshot.nodes.documents
        return await self.manager.nodes()

    async def list(self, container_id: str = "") -> list[Listed]:
        """Every managed container, or one, with the same status as an inspection gives."""
        if container_id:
            status = await self.inspect(container_id)
            return [] if status is None else [self._listed(status)]
        await self._poll()
        found = []
        for number, key in enumerate(self.snapshot.ids(), 1):
            if (status := self.snapshot.status(key)) is not None:
                found.append(self._listed(status))
            if number % _STATUSES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    def _listed(self, status: ContainerStatus) -> Listed:
        if status.state is not ContainerState.RUNNING:
            return Listed(status)
        seconds = self.snapshot.unchanged_seconds(status.container_id)
        return Listed(status, running_seconds=seconds, health=status.health, ports=status.ports)


def _now() -> float:
    return asyncio.get_running_loop().time()
