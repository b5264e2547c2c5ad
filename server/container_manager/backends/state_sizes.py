"""Measures bots' state directories by ``du``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from contextlib import suppress

from container_manager.bot_directories import RootDirectory

# It follows no link and leaves other file systems out. It has the lowest priority, since a bot may have any number of
# files. It reads the paths from standard input, since the length of arguments is limited.
_DU = ("nice", "-n", "19", "du", "--summarize", "--one-file-system", "--block-size=1", "--null", "--files0-from=-")


async def state_sizes(root: RootDirectory, bot_ids: Collection[str]) -> dict[str, int]:
    """The bytes that each bot's state directory occupies, by bot; without those that cannot be measured."""
    paths = {os.fsencode(root.path / bot_id): bot_id for bot_id in bot_ids}
    output = b""
    # There is no du, or it has ended early, which uvloop's pipe tells by a RuntimeError.
    with suppress(OSError, RuntimeError):
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
