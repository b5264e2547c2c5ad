"""The streams of containers in memory, on the event loop: notices, inspections, logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from container_manager.backend import Listed, Notice
from container_manager.errors import ContainerNotFoundError, EngineUnavailableError
from container_manager.model import ContainerStatus, RawEntry
from tests.support.memory_store import RUNNING, Container, MemoryStore


class MemorySource:
    """The source that the live view follows."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def list(self, container_id: str = "") -> list[Listed]:
        self._store.check_there()
        with self._store.lock:
            found = [each.status for each in self._store.containers.values() if each.managed]
        return [
            Listed(
                ContainerStatus(
                    each.container_id,
                    each.bot_id,
                    each.name,
                    each.state,
                    each.image,
                    each.image_id,
                    each.create_time_ns,
                )
            )
            for each in found
            if container_id in ("", each.container_id)
        ]

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        self._store.check_there()
        container = self._store.containers.get(container_id)
        return container.status if container is not None and container.managed else None

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        self._store.check_there()
        container = self._store.shown(bot_id)
        return None if container is None else container.status

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        self._store.check_there()
        if self._store.notices_fail:
            raise EngineUnavailableError("there are no notices")
        with self._store.listening() as news:
            yield _notices(news)


class MemoryLog:
    """The log of one container."""

    def __init__(self, store: MemoryStore, container_id: str) -> None:
        self.was_opened = False
        self._store = store
        self._container_id = container_id

    async def runs(self) -> bool:
        return self._container().status.state in RUNNING

    async def existing(
        self,
        tail: int | None = None,
        until_ns: int | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[list[RawEntry], None]:
        log = self._container().log
        self.was_opened = True
        if entries := log[-tail:] if tail is not None else log[:]:
            yield entries

    async def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:  # noqa: ARG002
        with self._store.listening() as news:
            sent = max(len(self._container().log) - tail, 0) if tail is not None else 0
            while True:
                container = self._container()
                self.was_opened = True
                runs = container.status.state in RUNNING
                entries, sent = container.log[sent:], len(container.log)
                if entries:
                    yield entries
                if not runs:
                    return
                if await news.get() is None:
                    raise EngineUnavailableError("the containers in memory are away")

    def _container(self) -> Container:
        self._store.check_there()
        container = self._store.containers.get(self._container_id)
        if container is None:
            raise ContainerNotFoundError("there is no such container")
        return container


async def _notices(news: asyncio.Queue[Notice | None]) -> AsyncIterator[Notice]:
    while (notice := await news.get()) is not None:
        yield notice
    raise EngineUnavailableError("the containers in memory are away")
