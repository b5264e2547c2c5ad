"""The state that a bot had before an operation: kept beside its state until it is ready, and put back if it is not.

Each step may be repeated after it was killed half-way.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from container_manager.errors import ContainerManagerError, StateUnavailableError
from container_manager.maintenance.steps import WAITING_READY, Means, require_states
from container_manager.maintenance.task import Task

FAILED = "failed"
"""The state that the bot has left when it last did not become ready, beside the bot's state."""

_log = logging.getLogger(__name__)


def former_state(task: Task) -> str:
    """What the state from before the operation is called, beside the bot's state."""
    return task.copy_name("former")


def is_lost(means: Means, task: Task) -> bool:
    """Whether the bot may have changed its other state, and the former one is gone.

    To be asked before the first attempt to put it back: after that, its absence means that it was put back.
    """
    if task.phase == WAITING_READY:
        with suppress(ContainerManagerError):
            return not require_states(means).has_aside(task.bot_id, former_state(task))
    return False


def put_former_back(means: Means, task: Task) -> None:
    """Make the former state the bot's state again, and what the bot has made of the other one :data:`FAILED`.

    The latter is for diagnosis: where it cannot be kept, it is given up. Raises :class:`StateUnavailableError` if the
    fact ``former_lost`` says that there is no former one.
    """
    states, bot_id, former = require_states(means), task.bot_id, former_state(task)
    if not states.has_aside(bot_id, former):
        if task.facts.get("former_lost"):
            raise StateUnavailableError("the former state is not beside the bot's state any more", bot_id=bot_id)
        # It was put back before the service was killed, or never put aside.
        return
    if states.has_state(bot_id):
        # Else it is FAILED already: the service was killed between the two renames of the exchange.
        states.discard(bot_id, FAILED)
    states.exchange(bot_id, put=former, keep=FAILED, insists=False)


def discard_quietly(means: Means, task: Task, *names: str) -> None:
    """Remove copies that nobody needs. What cannot be removed takes room, and does no other harm."""
    for name in names:
        try:
            require_states(means).discard(task.bot_id, name)
        except Exception:  # noqa: BLE001 - the operation has ended, whatever is left of it
            _log.exception(
                "unexpected error: the copy %s of the state of bot %s could not be removed", name, task.bot_id
            )
