"""What the live view itself holds of each container, by the allocator's own count (tracemalloc).

A process's RSS grows in steps of whole arenas (1 MiB), by what reading many containers at once leaves free inside them,
and by libraries that warm up. This is the part of it that is there for good.
"""

from __future__ import annotations

import asyncio
import json
import tracemalloc

from bench.large_engine import documents
from container_manager.backends.docker.status import status_from_inspect
from container_manager.model import owned_bot
from container_manager.rpc.wire import encoded_status
from container_manager.view.live_view import LiveView


def bytes_each(count: int) -> float:
    """Bytes for each of ``count`` containers, read and applied one after another."""
    return asyncio.run(_bytes_each(count))


async def _bytes_each(count: int) -> float:
    source = documents(count)
    view = LiveView(encoded_status, owned_bot)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for document in source:
            view.apply(status_from_inspect(json.loads(document)), view.tick())
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / count
