"""Removes containers of bots in the course of maintenance."""

from __future__ import annotations

from collections.abc import Collection

from container_manager.errors import InvalidStateError, NotSupportedByBackendError
from container_manager.maintenance.steps import Means, insist, insist_on, process_ended
from container_manager.model import ContainerState
from container_manager.operation import Operation


def remove_at_once(means: Means, bot_id: str) -> Operation[None]:
    """Remove the bot's container without a grace period, or with its own where the backend gives no other."""
    try:
        yield from insist(lambda: means.lifecycle.remove_container(bot_id, 0))
    except NotSupportedByBackendError:
        yield from insist(lambda: means.lifecycle.remove_container(bot_id))
    process_ended(means, bot_id)


def remove_own(means: Means, bot_id: str, request_ids: Collection[str], container_id: str = "") -> Operation[None]:
    """Remove the bot's container if a create with one of these request ids has made it, or if it is this one.

    Raises :class:`InvalidStateError` for any other: somebody else has made it, as another service on the same swarm.
    """
    status = yield from insist_on(lambda: means.lifecycle.get_container_status(bot_id))
    if status is None:
        return
    is_own = status.request_id in request_ids or status.container_id == container_id
    if not is_own and status.state is not ContainerState.REMOVING:
        raise InvalidStateError(
            f"the bot has the container {status.container_id[:12]} now, which is left as it is: somebody else has made "
            "it meanwhile",
            bot_id=bot_id,
            container_id=status.container_id,
        )
    yield from remove_at_once(means, bot_id)
