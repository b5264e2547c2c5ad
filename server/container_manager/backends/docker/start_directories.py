"""Checks a bot's directories before its container is started: the engine mounts them by name at each start."""

from __future__ import annotations

from typing import Any

from container_manager.backends.docker.container_user import has_no_capabilities, uid_of
from container_manager.bot_directories import check_secrets_directory, check_state_to_mount
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.user_namespace import check_secrets_usable, check_state_usable


def check_directories(
    engine: EngineClient, config: BackendConfig, bot_id: str, container_id: str, deadline: Deadline
) -> None:
    """Raise :class:`SecretsUnavailableError` or :class:`StateUnavailableError` unless the bot could use them."""
    check_secrets_directory(config.secrets_root, bot_id)
    if config.state_root is not None:
        source = config.state_root.source(bot_id)
        check_state_to_mount(config.state_root, bot_id, lambda: _mounts(engine, container_id, source, bot_id, deadline))
    if engine.user_namespace(deadline) is not None:
        check_usable(engine, config, bot_id, _inspect(engine, container_id, bot_id, deadline), deadline)


def check_usable(
    engine: EngineClient, config: BackendConfig, bot_id: str, inspected: dict[str, Any] | None, deadline: Deadline
) -> None:
    """Raise the same errors if the engine remaps users so that the container's user certainly cannot use them.

    Without ``inspected``, the container's inspect document: if no user can.
    """
    if (namespace := engine.user_namespace(deadline)) is None:
        return
    uid = None if inspected is None else _certain_uid(engine, inspected, deadline)
    check_secrets_usable(config.secrets_root, bot_id, namespace, config.bot_user, uid)
    if config.state_root is not None:
        check_state_usable(config.state_root, bot_id, namespace, config.bot_user, uid)


def _certain_uid(engine: EngineClient, inspected: dict[str, Any], deadline: Deadline) -> int | None:
    # With capabilities, which a bot of this service has not, root may read anything, and a program may change its user.
    if not has_no_capabilities(inspected) or (inspected.get("HostConfig") or {}).get("UsernsMode"):
        return None
    try:
        return uid_of(engine, inspected, deadline)
    except EngineRejectedError:
        return None


def _mounts(engine: EngineClient, container_id: str, source: str, bot_id: str, deadline: Deadline) -> bool:
    document = _inspect(engine, container_id, bot_id, deadline)
    return document is not None and any(each.get("Source") == source for each in document.get("Mounts") or ())


def _inspect(engine: EngineClient, container_id: str, bot_id: str, deadline: Deadline) -> dict[str, Any] | None:
    try:
        return engine.inspect_container(container_id, deadline)
    except EngineRejectedError as exc:
        raise engine_error(exc, bot_id) from exc
