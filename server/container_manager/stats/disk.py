"""What containers occupy on the disk, for callers that cannot wait until it is measured."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context

from container_manager.errors import ContainerManagerError
from container_manager.model import DiskUse

INTERVAL_SECONDS = 60.0
"""Between the end of a measurement and the start of the next one."""
PATIENCE_SECONDS = 1.0
"""How long a caller waits for the first measurement."""

_log = logging.getLogger(__name__)


class DiskUses:
    """Measures in the background while somebody asks, and never twice at once. On one event loop."""

    def __init__(self, measure: Callable[[], Awaitable[Mapping[str, DiskUse]]]) -> None:
        """``measure``: as :meth:`container_manager.backend.Backend.disk_use`."""
        self._measure = measure
        self._newest: Mapping[str, DiskUse] = {}
        self._measured = -math.inf
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop measuring."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def newest(self) -> Mapping[str, DiskUse]:
        """What was measured last, by container id. Starts the next measurement if it is time for one."""
        if self._task is None and asyncio.get_running_loop().time() >= self._measured + INTERVAL_SECONDS:
            # An empty context: the work serves all callers.
            self._task = asyncio.get_running_loop().create_task(self._take(), context=Context())
        return self._newest

    async def first(self) -> Mapping[str, DiskUse]:
        """As :meth:`newest`, but waits a little if nothing has been measured yet."""
        self.newest()
        if self._measured == -math.inf and self._task is not None:
            await asyncio.wait({self._task}, timeout=PATIENCE_SECONDS)
        return self._newest

    async def _take(self) -> None:
        try:
            self._newest = await self._measure()
        except ContainerManagerError as exc:
            _log.info("the disk use of containers could not be measured: %s", exc.reason)
        except Exception:  # noqa: BLE001 - the next measurement may go well
            _log.exception("unexpected error: the disk use of containers could not be measured")
        finally:
            self._measured = asyncio.get_running_loop().time()
            self._task = None
