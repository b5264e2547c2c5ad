"""Finds a bot's container by its name, checks its labels, and removes a container by its id."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from container_manager.backends.docker.spec import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import NameInUseUnmanagedError
from container_manager.model import container_name


def find_container(engine: EngineClient, bot_id: str, deadline: Deadline) -> dict[str, Any] | None:
    """The inspect document of the bot's container; ``None`` when the bot has none.

    Raises :class:`NameInUseUnmanagedError` when a container that is not ours has its name.
    """
    try:
        document = engine.inspect_container(container_name(bot_id), deadline)
    except EngineRejectedError as exc:
        raise engine_error(exc, bot_id) from exc
    if document is None:
        return None
    labels = document["Config"].get("Labels") or {}
    if labels.get(LABEL_MANAGED) != "true" or labels.get(LABEL_BOT_ID) != bot_id:
        raise NameInUseUnmanagedError(
            f"the name {container_name(bot_id)} is held by a container that this service did not make; "
            "rename or remove that container by hand",
            bot_id=bot_id,
            container_id=document["Id"],
        )
    return document


def container_ids(engine: EngineClient, bot_id: str, deadline: Deadline) -> list[str]:
    """The ids of every container with the bot's label, whatever its name, and of the one with the bot's name."""
    try:
        named = engine.inspect_container(container_name(bot_id), deadline)
        rows = engine.list_containers(f"{LABEL_BOT_ID}={bot_id}", deadline)
    except EngineRejectedError as exc:
        raise engine_error(exc, bot_id) from exc
    return sorted({document["Id"] for document in [*rows, *([] if named is None else [named])]})


def remove(engine: EngineClient, container_id: str) -> bool:
    """Remove a container with its anonymous volumes; ``False`` when another removal of it is in progress.

    A missing container counts as removed. Raises :class:`EngineRejectedError` for any other error response, and
    ``EngineTimeoutError`` when the engine does not respond in time.
    """
    try:
        engine.remove_container(container_id)
    except EngineRejectedError as exc:
        if exc.status == HTTPStatus.CONFLICT:
            return False
        if exc.status != HTTPStatus.NOT_FOUND:
            raise
    return True
