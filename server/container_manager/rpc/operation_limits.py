"""How many operations a server carries out at once."""

from __future__ import annotations

import resource

from container_manager.bot_locks import shared_locks
from container_manager.config import ServerConfig
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.starts import Starts

# Of the descriptors that the process may open: a change may have a connection to the engine for its grace period.
_CHANGES_SHARE = 0.25


def bot_operations(config: ServerConfig, starts: Starts) -> BotOperations:
    """Changes that are under way may be twice as many as have callers: they go on when these give up."""
    most, (descriptors, _) = 2 * config.max_concurrent_calls, resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY:
        most = min(most, int(descriptors * _CHANGES_SHARE))
    # Pulls leave room for other changes.
    pulling, locks = min(config.max_concurrent_calls, most) // 2, shared_locks(config.service.secrets_root.path)
    return BotOperations(
        config.workers, most_changes=max(1, most), most_pulling=max(1, pulling), starts=starts, locks=locks
    )
