"""Gives containers that BotMaker made the names that this service looks for.

A rename is one step of the engine, and leaves a running container running. A service may run meanwhile. It changes no
container that does not have its bot's name, the engine gives a name to one container only, and
:class:`~container_manager.bot_locks.BotLocks` keep the service's changes of a bot away while the bot's containers are
looked at and one is renamed. Nothing is guessed: where it is not certain that a container is the bot's, it is refused.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED, LABEL_SWARM_SERVICE
from container_manager.backends.docker.status import status_from_row
from container_manager.bot_locks import BotLocks
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import ContainerStatus, age, container_name, owned_bot

Json = dict[str, Any]

LOCK_SECONDS = 10.0
"""How long a change of the bot by a service may take until the container is refused."""
_POLL_SECONDS = 0.05


class Adoption(NamedTuple):
    """What became of one container."""

    name: str
    """The name that it had."""
    bot_id: str
    refusal: str = ""
    """Why it keeps that name; empty: it has the bot's name now, or would have it after a dry run."""


async def misnamed_containers(engine: AsyncEngineClient) -> list[ContainerStatus]:
    """The containers with both labels of a bot and another name than the bot's, oldest first: short statuses.

    Raises one of the ``Engine…Error`` kinds.
    """
    statuses = [status_from_row(row) for row in await _rows(engine, f"{LABEL_MANAGED}=true")]
    return sorted((each for each in statuses if each.bot_id and owned_bot(each) is None), key=age)


async def adopt(
    engine: AsyncEngineClient, containers: list[ContainerStatus], locks: BotLocks | None
) -> AsyncIterator[Adoption]:
    """Rename these containers, one after another; yields what became of each.

    ``locks``: ``None`` for a dry run, which only looks. Raises one of the ``Engine…Error`` kinds.
    """
    for container in containers:
        if locks is None:
            refusal = await _refusal(engine, container)
        elif not await _taken(locks, container.bot_id):
            refusal = "a service is changing the bot; run this again when that has ended"
        else:
            try:
                refusal = await _refusal(engine, container) or await _rename(engine, container)
            finally:
                locks.release(container.bot_id)
        yield Adoption(container.name, container.bot_id, refusal)


async def _taken(locks: BotLocks, bot_id: str) -> bool:
    ends = asyncio.get_running_loop().time() + LOCK_SECONDS
    while not locks.take(bot_id):
        if asyncio.get_running_loop().time() > ends:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


async def _refusal(engine: AsyncEngineClient, container: ContainerStatus) -> str:
    """Why the container must keep its name; empty if it may be renamed."""
    document = await _find(engine, f"/containers/{container.container_id}/json")
    if document is None:
        return "it was removed meanwhile"
    if (now := document["Name"].removeprefix("/")) != container.name:
        return f"it was renamed to {now} meanwhile"
    return (
        await _conflict(engine, container)
        or await _unfitness(engine, document, container.bot_id)
        or _crash_loop(document, container.name)
    )


async def _conflict(engine: AsyncEngineClient, container: ContainerStatus) -> str:
    """Which other container stands in the way."""
    rows = await _rows(engine, f"{LABEL_BOT_ID}={container.bot_id}")
    others = sorted(status_from_row(row).name for row in rows if row["Id"] != container.container_id)
    if others:
        return f"the bot has other containers too: {', '.join(others)}; remove all but one"
    name = container_name(container.bot_id)
    if await _find(engine, f"/containers/{name}/json") is not None:
        return f"another container has the name {name}; rename or remove that one by hand"
    return ""


async def _unfitness(engine: AsyncEngineClient, document: Json, bot_id: str) -> str:
    """Why it is no container that BotMaker made, or none that the service can keep."""
    if LABEL_SWARM_SERVICE in (document["Config"].get("Labels") or {}):
        return "a swarm made it for the bot's service, and would start another in its place"
    image = await _find(engine, f"/images/{document['Image']}/json")
    if image is None:
        return "its image is gone, so its labels may have been the image's; if they are its own, rename it by hand"
    if ((image.get("Config") or {}).get("Labels") or {}).get(LABEL_BOT_ID) == bot_id:
        return "its labels are its image's, as after docker commit; BotMaker did not make it"
    if document["Config"].get("Tty"):
        return "it has a terminal, so the service could not read its log; make it anew without one"
    return ""


def _crash_loop(document: Json, name: str) -> str:
    """Whether the engine waits to start it again. It then renames no container, whose network it does not find."""
    if not document["State"].get("Restarting"):
        return ""
    return f"its process ends again and again, and the engine renames none that it restarts; first: docker stop {name}"


async def _rename(engine: AsyncEngineClient, container: ContainerStatus) -> str:
    """Rename it; why that was not possible, or nothing."""
    name = container_name(container.bot_id)
    try:
        await engine.post("rename_container", f"/containers/{container.container_id}/rename", {"name": name})
    except EngineRejectedError as exc:
        # Since the look at them, the name was taken, the container removed, or its process ended.
        document = await _find(engine, f"/containers/{container.container_id}/json")
        loop = "" if document is None else _crash_loop(document, container.name)
        return loop or f"the engine refused the name {name}: {exc.text}"
    return ""


async def _rows(engine: AsyncEngineClient, label: str) -> list[Json]:
    try:
        rows: list[Json] = await engine.get_json(
            "/containers/json", {"all": "1", "filters": json.dumps({"label": [label]})}
        )
    except EngineRejectedError as exc:
        raise engine_error(exc) from exc
    return rows


async def _find(engine: AsyncEngineClient, path: str) -> Json | None:
    try:
        document: Json | None = await engine.find_json(path)
    except EngineRejectedError as exc:
        raise engine_error(exc) from exc
    return document
