"""Reads from a swarm's manager on the event loop, each with a short time-out of its own."""

from __future__ import annotations

import json
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError

Json = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 3.0
"""A manager without a leader, or cut off from the others, holds every request for 20 s."""

_OURS = f"{LABEL_MANAGED}=true"


class ManagerReads:
    """Reads of services, tasks and nodes. Every method raises the domain's ``Engine…Error``."""

    def __init__(self, manager: AsyncEngineClient) -> None:
        self._manager = manager

    async def list_body(self, path: str) -> bytes:
        """The manager's list of what is ours at ``/services`` or ``/tasks``, or of all ``/nodes``, as it is."""
        filters = {} if path == "/nodes" else {"label": [_OURS]}
        try:
            return await self._manager.get_bytes(path, _query(filters), timeout_seconds=REQUEST_TIMEOUT_SECONDS)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    async def service(self, service_id: str) -> Json | None:
        """A service; ``None``: there is none."""
        found: Json | None = await self._find(f"/services/{service_id}")
        return found

    async def services_of_bot(self, bot_id: str) -> list[Json]:
        """The services with a bot's label."""
        return await self._find("/services", label=[f"{LABEL_BOT_ID}={bot_id}"]) or []

    async def tasks(self, service_id: str) -> list[Json]:
        """The tasks of a service, also of one of ours that is gone."""
        found: list[Json] | None = await self._find("/tasks", service=[service_id])
        if found is not None:
            return found
        # The manager refuses to filter by a service that is gone.
        tasks: list[Json] = await self._find("/tasks", label=[_OURS]) or []
        return [task for task in tasks if task["ServiceID"] == service_id]

    async def tasks_of_bot(self, bot_id: str) -> list[Json]:
        """The tasks of services with a bot's label, also of those that are gone."""
        return await self._find("/tasks", label=[f"{LABEL_BOT_ID}={bot_id}"]) or []

    async def nodes(self) -> dict[str, Json]:
        """All nodes by their ids."""
        return {node["ID"]: node for node in await self._find("/nodes") or []}

    async def _find(self, path: str, **filters: list[str]) -> Any:
        """What the manager has at the path; ``None`` if there is none."""
        try:
            return await self._manager.find_json(path, _query(filters), timeout_seconds=REQUEST_TIMEOUT_SECONDS)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc


def _query(filters: dict[str, list[str]]) -> dict[str, str] | None:
    return {"filters": json.dumps(filters)} if filters else None
