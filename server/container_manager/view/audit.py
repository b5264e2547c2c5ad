"""Compares the view with the engine. Every difference is a bug, which the audit logs, counts and repairs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields

from container_manager.backend import Source
from container_manager.errors import ContainerManagerError, reason_of
from container_manager.model import ContainerStatus
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher

INTERVAL_SECONDS = 60.0
# Pace the audit so that it adds no noticeable load.
_PACE_SECONDS = 0.02
# The event for a recent change may still be on its way.
_GRACE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Audit:
    """Compares all containers, one after another, with pauses."""

    def __init__(
        self,
        view: LiveView,
        source: Source,
        refresher: Refresher,
        interval_seconds: float = INTERVAL_SECONDS,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self._view = view
        self._source = source
        self._refresher = refresher
        self._interval_seconds = interval_seconds
        self._grace_seconds = grace_seconds

    async def run(self) -> None:
        """Audit at each interval until cancelled."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.check()
            except ContainerManagerError as exc:
                _log.info("the audit of the view stopped early: %s", reason_of(exc))
            except Exception:  # noqa: BLE001 - the next audit may succeed
                _log.exception("unexpected error: the audit of the view failed")

    async def check(self) -> int:
        """Compare once. Returns the number of differences and adds it to the view's ``drift``."""
        listed = {row.status.container_id for row in await self._source.list()}
        suspects: dict[str, int] = {}
        for key in listed | self._view.ids():
            if await self._difference(key):
                suspects[key] = self._applied(key)
            await asyncio.sleep(_PACE_SECONDS)
        if not suspects:
            return 0
        await asyncio.sleep(self._grace_seconds)
        found = 0
        for key, applied in suspects.items():
            what = await self._difference(key)
            # If a new inspection was applied since, the view has repaired itself; a difference now may be a new change.
            if what and self._applied(key) == applied:
                found += 1
                self._view.drift += 1
                _log.error("the view was wrong about container %s: %s", key[:12], what)
                self._refresher.touch(key)
        return found

    def _applied(self, key: str) -> int:
        entry = self._view.get(key)
        return 0 if entry is None else entry.applied

    async def _difference(self, key: str) -> str:
        """How the view differs from the engine about a container; empty if it is right or about to be updated."""
        began = self._view.tick()
        try:
            actual = await self._source.inspect(key)
        except ContainerManagerError:
            return ""
        entry = self._view.get(key)
        if not self._view.in_sync or key in self._view.doubts or not self._refresher.is_settled(key):
            return ""
        # The view was updated meanwhile, and nothing shows which of the two states is newer.
        if entry is not None and (entry.applied > began or entry.partial):
            return ""
        return _differences(None if entry is None else entry.status, actual)


def _differences(known: ContainerStatus | None, actual: ContainerStatus | None) -> str:
    if known == actual:
        return ""
    if known is None or actual is None:
        return "it is missing" if known is None else "it is gone"
    # Log field names only: values may be personal.
    names = [field.name for field in fields(known) if getattr(known, field.name) != getattr(actual, field.name)]
    return f"differs in {', '.join(names)}"
