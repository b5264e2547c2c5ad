"""Runs the action ``ready``, which says whether a bot is ready, inside its container."""

from __future__ import annotations

from typing import NamedTuple

from container_manager.actions import READY, DeclaredActions, bounded
from container_manager.backend_provisioning import Actions
from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, ContainerManagerError, NotSupportedByBackendError
from container_manager.model import ContainerStatus
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool

_SECONDS = 8
_MOST_WORDS = 200


class Probed(NamedTuple):
    """How the action ended."""

    exit_code: int
    """0: the bot is ready."""
    words: str
    """The last line that the program wrote."""


class ReadyProbe:
    """For the event loop. Of each bot, one probe runs at a time; it does not wait for the actions of callers."""

    def __init__(self, actions: Actions, operations: BotOperations, declared: DeclaredActions) -> None:
        self._actions = actions
        self._operations = operations
        self._declared = declared

    async def probe(self, container: ContainerStatus, deadline: Deadline) -> Probed | None:
        """How the action of this running container ended; ``None`` if its image has none, or if it cannot run.

        Raises :class:`CapacityExceededError` for one that had no worker: that says nothing of the bot.
        """
        action = self._declared.find(READY, container)
        if action is None:
            return None
        command = bounded(action.command_with(()), _SECONDS)
        try:
            result = await self._operations.act(
                f"{READY} {container.bot_id}",
                lambda deadline: self._actions.run(
                    container.container_id, command, seconds=deadline.at_most(2 * _SECONDS)
                ),
                deadline,
                WorkerPool.READY_PROBE,
            )
        except CapacityExceededError:
            raise
        except NotSupportedByBackendError:
            return None
        except ContainerManagerError as exc:
            # The container may have ended a moment ago, or the engine is slow.
            return Probed(1, str(exc))
        lines = (result.stdout.strip() or result.stderr.strip()).decode("utf-8", "replace").splitlines()
        return Probed(result.exit_code, lines[-1].strip()[:_MOST_WORDS] if lines else f"exit code {result.exit_code}")
