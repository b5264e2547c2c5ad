"""The current status of a bot's container: from the live view, or from the engine while the view cannot tell."""

from __future__ import annotations

from container_manager.backend import Lifecycle
from container_manager.deadline import Deadline
from container_manager.errors import ContainerNameMismatchError
from container_manager.model import ContainerStatus, owned_bot
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.view.live_view import LiveView


def check_own_name(container: ContainerStatus) -> None:
    """Raise :class:`ContainerNameMismatchError` for a container that was made for a bot and has another name."""
    if owned_bot(container) is None:
        raise ContainerNameMismatchError.of(container.bot_id, container.container_id, container.name)


class BotStatuses:
    """On one event loop."""

    def __init__(self, lifecycle: Lifecycle, operations: BotOperations, view: LiveView) -> None:
        self._lifecycle = lifecycle
        self._operations = operations
        self._view = view

    async def get(self, bot_id: str, deadline: Deadline) -> ContainerStatus | None:
        """The status; ``None`` when the bot has no container."""
        if self._view.answers_for(bot_id):
            entry = self._view.of_bot(bot_id)
            return None if entry is None else entry.status
        return await self._operations.read(
            bot_id, lambda deadline: self._lifecycle.get_container_status(bot_id, deadline=deadline), deadline
        )

    async def require(self, bot_id: str, deadline: Deadline) -> ContainerStatus:
        """The status of the container that may be acted on.

        Raises the errors of :meth:`Lifecycle.require_container`, and :class:`ContainerNameMismatchError`.
        """
        entry = self._view.of_bot(bot_id)
        if entry is not None and self._view.answers_for(bot_id):
            status = entry.status
        else:
            # Only the engine knows whether a foreign container has the bot's name.
            status = await self._operations.read(
                bot_id, lambda deadline: self._lifecycle.require_container(bot_id, deadline=deadline), deadline
            )
        check_own_name(status)
        return status
