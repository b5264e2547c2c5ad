"""Removes containers of bots in the course of maintenance."""

from __future__ import annotations

from container_manager.errors import NotSupportedByBackendError
from container_manager.maintenance.steps import Means, check_own, insist, insist_on, process_ended
from container_manager.maintenance.task import Task
from container_manager.model import ContainerState
from container_manager.operation import Operation


def remove_at_once(means: Means, bot_id: str) -> Operation[None]:
    """Remove the bot's container without a grace period, or with its own where the backend gives no other."""
    try:
        yield from insist(lambda: means.lifecycle.remove_container(bot_id, 0))
    except NotSupportedByBackendError:
        yield from insist(lambda: means.lifecycle.remove_container(bot_id))
    process_ended(means, bot_id)


def remove_own(means: Means, task: Task) -> Operation[None]:
    """Remove the bot's container. Raises as :func:`check_own`, unless it is being removed anyway."""
    status = yield from insist_on(lambda: means.lifecycle.get_container_status(task.bot_id))
    if status is None:
        return
    if status.state is not ContainerState.REMOVING:
        check_own(task, status)
    yield from remove_at_once(means, task.bot_id)
