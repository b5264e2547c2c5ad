"""Measures what bots' containers occupy on the disk: writable layers by the engine, state directories by ``du``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from container_manager.backends.bot_container import LABEL_MANAGED
from container_manager.backends.docker.status import status_from_row
from container_manager.bot_directories import RootDirectory
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import DiskUse, owned_bot

# The engine looks at every file of every writable layer.
_LAYERS_SECONDS = 300.0
# It follows no link and leaves other file systems out. It has the lowest priority, since a bot may have any number of
# files. It reads the paths from standard input, since the length of arguments is limited.
_DU = ("nice", "-n", "19", "du", "--summarize", "--one-file-system", "--block-size=1", "--null", "--files0-from=-")


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


async def state_sizes(root: RootDirectory, bot_ids: Collection[str]) -> dict[str, int]:
    """The bytes that each bot's state directory occupies, by bot; without those that cannot be measured."""
    paths = {os.fsencode(root.path / bot_id): bot_id for bot_id in bot_ids}
    output = b""
    with suppress(OSError):  # such as: there is no du
        process = await asyncio.create_subprocess_exec(
            *_DU, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            output, _ = await process.communicate(b"\0".join(paths))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    lines = (line.partition(b"\t") for line in output.split(b"\0") if line)
    return {paths[path]: int(size) for size, _, path in lines}


def _container_bot_and_layer(row: Any) -> tuple[str, str, int | None]:
    status = status_from_row(row)
    # The engine leaves out what is zero.
    return status.container_id, owned_bot(status) or "", row.get("SizeRw") or 0
