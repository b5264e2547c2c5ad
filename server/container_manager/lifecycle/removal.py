"""Removing a container that somebody else may be removing."""

from __future__ import annotations

from http import HTTPStatus

from container_manager.engine.client import EngineClient
from container_manager.engine.no_answer import EngineRejectedError


def remove(engine: EngineClient, container_id: str) -> bool:
    """Remove it with its anonymous volumes; ``False`` when another removal of it is under way.

    One that is gone already counts as removed. Raises :class:`EngineRejectedError` for any other refusal, and
    ``EngineTimeoutError`` when there is no answer in time.
    """
    try:
        engine.remove_container(container_id)
    except EngineRejectedError as exc:
        if exc.status == HTTPStatus.CONFLICT:
            return False
        if exc.status != HTTPStatus.NOT_FOUND:
            raise
    return True
