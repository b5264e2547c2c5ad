"""Shared by the tests of the refresher: creates containers, lets the view know them, and waits for inspections."""

from __future__ import annotations

import asyncio
from typing import Any

from container_manager.model import ContainerStatus
from container_manager.view.inspection import BURST_SECONDS
from tests.support.kept_view import Kept
from tests.unit.documents import BOT


async def soon() -> None:
    """Wait longer than a burst of events, and than any inspection that is not held."""
    await asyncio.sleep(BURST_SECONDS * 5)


async def known(kept: Kept, bot_id: str = BOT, **fields: Any) -> str:
    """A new container that the view shows."""
    key = kept.source.create(bot_id, **fields)
    kept.refresher.touch(key)
    await kept.refresher.settled((key,))
    kept.source.inspections.clear()
    return key


def shown(kept: Kept, key: str) -> ContainerStatus | None:
    entry = kept.view.get(key)
    return None if entry is None else entry.status
