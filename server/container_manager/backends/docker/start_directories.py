"""Checks a bot's directories before its container is started: the engine mounts them by name at each start."""

from __future__ import annotations

from container_manager.bot_directories import check_secrets_directory, check_state_directory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.user_namespace import check_secrets_usable, check_state_usable


def check_directories(engine: EngineClient, config: BackendConfig, bot_id: str, deadline: Deadline) -> None:
    """Raise :class:`SecretsUnavailableError` or :class:`StateUnavailableError` unless the bot could use them."""
    check_secrets_directory(config.secrets_root, bot_id)
    if config.state_root is not None:
        check_state_directory(config.state_root, bot_id)
    if (namespace := engine.user_namespace(deadline)) is not None:
        check_secrets_usable(config.secrets_root, bot_id, namespace, config.bot_user)
        if config.state_root is not None:
            check_state_usable(config.state_root, bot_id, namespace, config.bot_user)
