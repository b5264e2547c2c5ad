"""Finds a bot's containers, and removes a container by its id.

A bot's container has the bot's name and labels. BotMaker, before it had this service, gave the same labels and another
name. Where a bot has only such containers, reads show the newest one, and every change is refused until
``container-manager adopt`` has renamed it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerNameMismatchError, ContainerNotFoundError, NameInUseUnmanagedError
from container_manager.model import container_name

Json = dict[str, Any]


def find_container(engine: EngineClient, bot_id: str, deadline: Deadline) -> Json | None:
    """The inspect document of the container that changes act on; ``None`` when the bot has none.

    Raises :class:`NameInUseUnmanagedError` when a container that is not ours has the bot's name, and
    :class:`ContainerNameMismatchError` when the bot has only containers of other names.
    """
    try:
        named = engine.inspect_container(container_name(bot_id), deadline)
        if named is not None:
            if not _has_labels(named, bot_id):
                raise _name_in_use(named, bot_id)
            return named
        document = _newest_with_labels(engine, bot_id, deadline)
    except EngineRejectedError as exc:
        raise engine_error(exc, bot_id) from exc
    if document is not None and (name := name_of(document)) != container_name(bot_id):
        raise ContainerNameMismatchError.of(bot_id, document["Id"], name)
    return document


def find_shown_container(engine: EngineClient, bot_id: str, deadline: Deadline) -> Json | None:
    """The inspect document of the container that reads show, which may have another name; ``None``: there is none.

    Raises :class:`NameInUseUnmanagedError` when there is none, and a container that is not ours has the bot's name.
    """
    try:
        named = engine.inspect_container(container_name(bot_id), deadline)
        if named is not None and _has_labels(named, bot_id):
            return named
        document = _newest_with_labels(engine, bot_id, deadline)
    except EngineRejectedError as exc:
        raise engine_error(exc, bot_id) from exc
    if document is None and named is not None:
        raise _name_in_use(named, bot_id)
    return document


def containers_with_labels(engine: EngineClient, bot_id: str, deadline: Deadline) -> list[Json]:
    """The inspect documents of all containers with both labels of the bot. Raises :class:`EngineRejectedError`."""
    rows = engine.list_containers(f"{LABEL_BOT_ID}={bot_id}", deadline)
    documents = [engine.inspect_container(row["Id"], deadline) for row in rows]
    return [document for document in documents if document is not None and _has_labels(document, bot_id)]


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


def not_found(bot_id: str) -> ContainerNotFoundError:
    """The error for a bot that has no container."""
    return ContainerNotFoundError("the bot has no container; create one first", bot_id=bot_id)


def name_of(document: Json) -> str:
    """The container's name."""
    return str(document["Name"]).removeprefix("/")


def label_of(document: Json, name: str) -> str:
    """The container's label; empty: it has none."""
    return (document["Config"].get("Labels") or {}).get(name) or ""


def _newest_with_labels(engine: EngineClient, bot_id: str, deadline: Deadline) -> Json | None:
    """Of the containers with both labels, the one with the bot's name, if it was renamed just now; else the newest."""
    return max(
        containers_with_labels(engine, bot_id, deadline),
        key=lambda each: (name_of(each) == container_name(bot_id), time_ns(each.get("Created")) or 0, each["Id"]),
        default=None,
    )


def _has_labels(document: Json, bot_id: str) -> bool:
    labels = document["Config"].get("Labels") or {}
    return labels.get(LABEL_MANAGED) == "true" and labels.get(LABEL_BOT_ID) == bot_id


def _name_in_use(document: Json, bot_id: str) -> NameInUseUnmanagedError:
    return NameInUseUnmanagedError(
        f"the name {container_name(bot_id)} is held by a container that this service did not make; "
        "rename or remove that container by hand",
        bot_id=bot_id,
        container_id=document["Id"],
    )
