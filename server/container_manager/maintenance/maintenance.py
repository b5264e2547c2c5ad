"""What keeps the bots of one server alive: puts the parts of this package together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from container_manager.actions import READY, DeclaredActions
from container_manager.backend import Backend
from container_manager.deadline import Deadline
from container_manager.maintenance.action_runner import ActionRunner
from container_manager.maintenance.bot_status import BotStatuses
from container_manager.maintenance.readiness import ReadinessWaiter
from container_manager.maintenance.ready_probe import ReadyProbe
from container_manager.model import ContainerState
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.starts import PLACE_SECONDS
from container_manager.view.keeper import ViewKeeper

_LOOK_SECONDS = 0.5


class Maintenance:
    """For the event loop."""

    def __init__(
        self,
        backend: Backend,
        operations: BotOperations,
        keeper: ViewKeeper,
        actions: DeclaredActions,
        on_ready: Callable[[float, bool], None] | None = None,
    ) -> None:
        """``on_ready`` receives how many seconds a bot took to be ready after its start, or not to be."""
        self._operations = operations
        self._keeper = keeper
        self._on_ready = on_ready
        self.actions = actions
        self.statuses = BotStatuses(backend.lifecycle, operations, keeper.view)
        self.runner = ActionRunner(backend, operations, self.statuses, actions)
        self.readiness = ReadinessWaiter(self.statuses.get, ReadyProbe(backend.actions, operations, actions).probe)

    async def has_started(self, bot_id: str) -> None:
        """Wait until the bot is ready or will not be; not at all if nothing tells when it is ready."""
        await self._keeper.settled(bot_id)
        status = await self.statuses.get(bot_id, Deadline(PLACE_SECONDS))
        ends = time.monotonic() + PLACE_SECONDS
        with self._operations.lent(bot_id):
            while status is not None and status.state is ContainerState.CREATED and time.monotonic() < ends:
                # The start's caller has left before the bot's node had the image.
                await asyncio.sleep(_LOOK_SECONDS)
                status = await self.statuses.get(bot_id, Deadline(PLACE_SECONDS))
        if status is not None and (status.health is not None or self.actions.find(READY, status) is not None):
            begun = time.monotonic()
            found = await self.readiness.ready(bot_id, PLACE_SECONDS)
            if self._on_ready is not None:
                self._on_ready(time.monotonic() - begun, found.ready)
