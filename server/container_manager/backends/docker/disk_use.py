"""Measures what bots' containers occupy on the disk: their writable layers, and their states."""

from __future__ import annotations

import json
from typing import Any

from container_manager.backends.bot_container import LABEL_MANAGED
from container_manager.backends.docker.status import status_from_row
from container_manager.backends.state_sizes import state_sizes
from container_manager.bot_directories import RootDirectory
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import DiskUse, owned_bot

# The engine looks at every file of every writable layer.
_LAYERS_SECONDS = 300.0


async def disk_use(engine: AsyncEngineClient, state_root: RootDirectory | None) -> dict[str, DiskUse]:
    """The disk use of every managed container, by its id. Raises one of the ``Engine…Error`` kinds."""
    filters = json.dumps({"label": [f"{LABEL_MANAGED}=true"]})
    try:
        rows = await engine.get_items(
            "/containers/json",
            _container_bot_and_layer,
            {"all": "1", "size": "1", "filters": filters},
            timeout_seconds=_LAYERS_SECONDS,
        )
    except EngineRejectedError as exc:
        raise engine_error(exc) from exc
    states = {} if state_root is None else await state_sizes(state_root, [bot_id for _, bot_id, _ in rows if bot_id])
    return {container_id: DiskUse(states.get(bot_id), layer) for container_id, bot_id, layer in rows}


def _container_bot_and_layer(row: Any) -> tuple[str, str, int | None]:
    status = status_from_row(row)
    # The engine leaves out what is zero.
    return status.container_id, owned_bot(status) or "", row.get("SizeRw") or 0
