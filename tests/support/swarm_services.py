"""Bots' services on a real swarm, made and changed by hand, as if another service instance did it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

from container_manager.backends.swarm import records
from container_manager.backends.swarm.service_log import ServiceLog
from container_manager.backends.swarm.service_spec import Placement, service_body
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.task_log import LogEngines
from container_manager.deadline import Deadline
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerConfig, ContainerStatus
from container_manager.view.keeper import ViewKeeper
from tests.support.waiting import wait_until

Json = dict[str, Any]


class HandMade:
    """A context manager; on exit, the services and their tasks are gone."""

    def __init__(self, manager_url: str, image: str) -> None:
        self.engine = SwarmClient(manager_url, timeout_seconds=30)
        self._image = image
        self.ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for service_id in self.ids:
            self.engine.remove_service(service_id)
        wait_until(lambda: not any(map(self._left, self.ids)), "the services are gone")
        self.engine.close()

    def create(self, *command: str, node: str = "", bot_id: str = "") -> tuple[str, str]:
        """A new bot and its service, which does not run. ``node``: pinned to it. When it ends, another run begins."""
        bot_id = bot_id or str(uuid.uuid4())
        body = service_body(
            bot_id,
            ContainerConfig(command=command),
            image=self._image,
            requested_image=self._image,
            request_id="",
            create_id="by hand",
            stop_seconds=1,
            placement=Placement(constraints=[f"node.id=={self._node_id(node)}"] if node else ()),
            secrets=(),
        )
        body["TaskTemplate"]["RestartPolicy"]["Delay"] = 100_000_000
        self.ids.append(self.engine.create_service(body))
        return bot_id, self.ids[-1]

    def run(self, *command: str, node: str = "") -> tuple[str, str]:
        """A new bot and its service, which runs."""
        bot_id, service_id = self.create(*command, node=node)
        self.start(service_id)
        return bot_id, service_id

    def start(self, service_id: str) -> None:
        """Start a service, and wait until it runs."""
        # Confirmed, so that no service has anything to note.
        self.change(service_id, lambda spec: records.confirmed(records.started(spec, 0)))
        wait_until(lambda: "running" in self.states(service_id), "it runs")

    def change(self, service_id: str, change: Callable[[Json], Json]) -> None:
        """Change a service's specification, once the swarm has a leader."""

        def changed() -> bool:
            with suppress(EngineRejectedError, ContainerManagerError):
                document = self.engine.inspect_service(service_id, Deadline(3))
                return document is not None and self.engine.update_service(document, change(document["Spec"]))
            return False

        wait_until(changed, "it is changed")

    def tasks(self, service_id: str) -> list[Json]:
        """The tasks of a service that is there."""
        return self.engine.list_tasks(Deadline(), service=[service_id])

    def states(self, service_id: str) -> list[str]:
        """The states of its tasks."""
        return [task["Status"]["State"] for task in self.tasks(service_id)]

    def _node_id(self, name: str) -> str:
        nodes = self.engine.list_nodes(Deadline())
        return next(node["ID"] for node in nodes if node["Description"]["Hostname"] == name)

    def _left(self, service_id: str) -> bool:
        return any(task["ServiceID"] == service_id for task in self.engine.list_tasks(Deadline()))


class Followed:
    """A live view of a real swarm."""

    def __init__(self, manager: AsyncEngineClient, nodes: Mapping[str, AsyncEngineClient]) -> None:
        self.engine = manager
        self.nodes = nodes
        self.source = SwarmSource(self.engine)
        self.keeper = ViewKeeper(self.source, lambda status: json.dumps(str(status)).encode())

    def log(self, service_id: str) -> ServiceLog:
        """The log of a bot."""
        return ServiceLog(self.engine, self.source, service_id, LogEngines(self.nodes))

    def shown(self, bot_id: str) -> ContainerStatus | None:
        """The bot's status in the view."""
        entry = self.keeper.view.of_bot(bot_id)
        return None if entry is None else entry.status

    async def shows(self, bot_id: str, what: Callable[[ContainerStatus], bool], seconds: float = 60) -> ContainerStatus:
        """Wait until the view shows a bot so."""
        async with asyncio.timeout(seconds):
            while (status := self.shown(bot_id)) is None or not what(status):  # noqa: ASYNC110 - the view tells no task
                await asyncio.sleep(0.01)
        return status


@asynccontextmanager
async def clients(urls: Mapping[str, str]) -> AsyncIterator[dict[str, AsyncEngineClient]]:
    """A client of each of these engines."""
    async with AsyncExitStack() as stack:
        engines = {name: AsyncEngineClient(url, timeout_seconds=30) for name, url in urls.items()}
        for engine in engines.values():
            stack.push_async_callback(engine.close)
        yield engines


@asynccontextmanager
async def followed(*manager_urls: str, nodes: Mapping[str, str] | None = None) -> AsyncIterator[Sequence[Followed]]:
    """A view of the swarm by each of these managers, in sync. ``nodes``: the engines that are named, by their nodes."""
    async with clients({url: url for url in manager_urls}) as managers, clients(nodes or {}) as engines:
        views = [Followed(manager, engines) for manager in managers.values()]
        try:
            for view in views:
                view.keeper.start()
            for view in views:
                await view.keeper.in_sync()
            yield views
        finally:
            for view in views:
                await view.keeper.close()
