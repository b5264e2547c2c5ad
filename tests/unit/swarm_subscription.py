"""A subscription to a scripted swarm, and the notices that come from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from container_manager.backend import Notice
from container_manager.backends.swarm.source import QUIET_SECONDS, SwarmSource
from container_manager.errors import EngineUnavailableError
from tests.support.scripted_swarm import ScriptedSwarm

OTHER = "16fd2706-8baf-433b-82eb-8c7fada847da"


class Following:
    """A subscription, and the notices that have come from it."""

    def __init__(self, swarm: ScriptedSwarm, source: SwarmSource) -> None:
        self.swarm, self.source = swarm, source
        self.told: list[Notice] = []
        self.lost: Exception | None = None

    async def news(self) -> list[Notice]:
        """The notices of the next second."""
        self.told.clear()
        await asyncio.sleep(QUIET_SECONDS + 0.01)
        # The time of a notice has a test of its own.
        return [notice._replace(time_ns=0) for notice in self.told]

    async def follow(self, notices: AsyncIterator[Notice]) -> None:
        try:
            async for notice in notices:
                self.told.append(notice)
        except EngineUnavailableError as exc:
            self.lost = exc


@asynccontextmanager
async def following(swarm: ScriptedSwarm, source: SwarmSource | None = None) -> AsyncIterator[Following]:
    followed = Following(swarm, source or SwarmSource(swarm))  # type: ignore[arg-type]
    async with followed.source.subscribe() as notices:
        task = asyncio.create_task(followed.follow(notices))
        yield followed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def changed(key: str, **fields: bool) -> Notice:
    return Notice(key, gone=False, managed=True)._replace(**fields)
