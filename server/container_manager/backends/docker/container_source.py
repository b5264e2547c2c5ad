"""Feeds the live view from one engine: list, inspect and events."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from container_manager.backend import Listed, Notice
from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.backends.docker.rows import listed_from_row
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.engine.async_client import AsyncEngineClient, EngineStream, lines_of
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineUnavailableError
from container_manager.model import ContainerStatus, container_name, newest_of_bot

T = TypeVar("T")
Json = dict[str, Any]

_log = logging.getLogger(__name__)

INSPECT_TIMEOUT_SECONDS = 2.0
"""A container that takes longer to inspect counts as one that the engine cannot inspect (moby/moby#46782)."""

# Subscribe to events from a little before: the subscription starts after its response, and clocks may differ. Repeated
# events do no harm.
_OVERLAP_SECONDS = 5
# Podman's words for what Docker calls destroy and die (containers/podman#16857).
_GONE_EVENTS = ("destroy", "remove")
_CONTAINER_EVENTS = (
    "create",
    "start",
    "die",
    "died",
    "kill",
    "stop",
    "restart",
    "pause",
    "unpause",
    "oom",
    "rename",
    "update",
    "health_status",
    *_GONE_EVENTS,
)
# They change which ports are bound, and are the only events of a failed start.
_NETWORK_EVENTS = ("connect", "disconnect")


class ContainerSource:
    """Reads one engine. Every method raises the domain's ``Engine…Error``."""

    def __init__(self, engine: AsyncEngineClient, reader: StatusReader | None = None) -> None:
        """``reader``: shared with all that read this engine."""
        self._engine = engine
        self._reader = reader or StatusReader()
        # Reasons for skipped events; each is logged once.
        self._skipped: set[str] = set()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        """Notices from a little before now on. The iterator never ends; it raises when the engine is lost.

        A malformed event is skipped; the audit finds what that missed.
        """
        filters = {"type": ["container", "network"], "event": [*_CONTAINER_EVENTS, *_NETWORK_EVENTS]}
        since_ms = round((time.time() - _OVERLAP_SECONDS) * 1_000)
        try:
            async with self._engine.stream(
                "/events", {"filters": json.dumps(filters), "since": f"{since_ms / 1_000:.3f}"}
            ) as stream:
                self._reader.ends.follow(since_ms * 1_000_000)
                yield self._notices(stream)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    async def list(self, container_id: str = "") -> list[Listed]:
        """Every managed container, or one, from the engine's list."""
        filters = {"label": [f"{LABEL_MANAGED}=true"], **({"id": [container_id]} if container_id else {})}
        try:
            return await self._engine.get_items(
                "/containers/json", listed_from_row, {"all": "1", "filters": json.dumps(filters)}
            )
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        """The container's current status; ``None`` when it is gone or not managed."""
        document = await self._inspect(container_id)
        return None if document is None else await self._status(document)

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        """The current status of the bot's container: the one with its name, else the newest with its labels."""
        document = await self._inspect(container_name(bot_id))
        if document is not None and document["Config"]["Labels"].get(LABEL_BOT_ID) == bot_id:
            return await self._status(document)
        filters = {"label": [f"{LABEL_BOT_ID}={bot_id}"]}
        rows = await self._get("/containers/json", {"all": "1", "filters": json.dumps(filters)})
        return newest_of_bot(bot_id, [await self.inspect(row["Id"]) for row in rows or ()])

    async def _status(self, document: Json) -> ContainerStatus:
        if image_id := self._reader.unknown_image(document):
            self._reader.learn(image_id, await self._get(f"/images/{image_id}/json"))
        return self._reader.status(document)

    async def _inspect(self, key: str) -> Json | None:
        document: Json | None = await self._get(f"/containers/{key}/json")
        if document is None or (document["Config"].get("Labels") or {}).get(LABEL_MANAGED) != "true":
            return None
        return document

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """What the engine has at the path; ``None`` if there is none."""
        try:
            return await self._engine.find_json(path, params, timeout_seconds=INSPECT_TIMEOUT_SECONDS)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    async def _notices(self, stream: EngineStream) -> AsyncIterator[Notice]:
        async for line in lines_of(stream):
            # The last one may be cut.
            if line.endswith(b"\n") and (notice := self._understood(line.removesuffix(b"\n"))) is not None:
                yield notice
        raise EngineUnavailableError("the engine ended its event stream")

    def _understood(self, line: bytes) -> Notice | None:
        try:
            return self._notice(_decoded(line))
        except ValueError as exc:
            why = str(exc)
            if why not in self._skipped:
                self._skipped.add(why)
                _log.warning("an event of the engine is not understood and skipped, as all such: %s", why)
            return None

    def _notice(self, event: object) -> Notice | None:
        """The notice for an event; ``None`` for an irrelevant one. Raises ``ValueError`` for a malformed one."""
        kind, action, actor = _field(event, "Type", str), _field(event, "Action", str), _field(event, "Actor", dict)
        attributes = actor.get("Attributes")
        if not isinstance(attributes, dict):
            attributes = {}
        time_ns = event.get("timeNano") if isinstance(event, dict) else None
        if not isinstance(time_ns, int):
            time_ns = 0
        if kind == "network":
            container_id = attributes.get("container")
            # Events of the network itself have no container.
            if not container_id or not isinstance(container_id, str):
                return None
            return Notice(container_id, gone=False, managed=False, time_ns=time_ns)
        if kind != "container":
            raise ValueError("of a type that was not asked for")
        container_id = _field(actor, "ID", str)
        if not container_id:
            raise ValueError("without an id")
        managed = attributes.get(LABEL_MANAGED) == "true"
        gone = action in _GONE_EVENTS
        if gone:
            self._reader.ends.forget(container_id)
        elif managed:
            self._reader.ends.event(container_id, action, attributes, time_ns)
        # A signal changes nothing by itself.
        if action == "kill":
            return None
        return Notice(container_id, gone, managed, time_ns, created=action == "create", renamed=action == "rename")


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise ValueError("not JSON") from exc


def _field(holder: object, name: str, kind: type[T]) -> T:
    value = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"without {name}")  # noqa: TRY004 - as for a value that is wrong
    return value
