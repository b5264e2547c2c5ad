"""Has bots attended to for whom something has been due for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from container_manager.backends.swarm.snapshot import Snapshot, is_bot
from container_manager.backends.swarm.upkeep import is_due

Json = dict[str, Any]

PATIENCE_SECONDS = 3.0
"""A call that is under way does by itself what is due. Less than a swarm waits before it tries a start again."""
_AT_ONCE = 4


class Overdue:
    """On one event loop."""

    def __init__(self, attend: Callable[[Json], Awaitable[None]]) -> None:
        """``attend`` is given the service. Should it still be due afterwards, it is attended to again."""
        self._attend = attend
        self._since: dict[str, float] = {}
        self._attended: dict[str, asyncio.Task[None]] = {}

    def look(self, snapshot: Snapshot, changed: Iterable[str]) -> None:
        """Look at the bots that have changed, and have those attended to that are overdue."""
        now = asyncio.get_running_loop().time()
        for key in changed:
            if (service := snapshot.service(key)) is not None and is_bot(service) and _due(snapshot, service):
                self._since.setdefault(key, now)
            else:
                self._since.pop(key, None)
        for key, since in list(self._since.items()):
            service = snapshot.service(key)
            if service is None:
                del self._since[key]
            elif now - since >= PATIENCE_SECONDS and len(self._attended) < _AT_ONCE and key not in self._attended:
                # It comes last then: those that take long, and stay due, do not keep others from their turn.
                del self._since[key]
                self._since[key] = now
                if _due(snapshot, service):
                    self._attended[key] = asyncio.create_task(self._run(key, service))

    async def close(self) -> None:
        """Wait until nobody is attended to."""
        await asyncio.gather(*self._attended.values(), return_exceptions=True)

    async def _run(self, key: str, service: Json) -> None:
        try:
            await self._attend(service)
        finally:
            del self._attended[key]


def _due(snapshot: Snapshot, service: Json) -> bool:
    return is_due(service, snapshot.tasks_of(service["ID"]), snapshot.nodes.documents)
