"""The health service: SERVING exactly while the engine answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import structlog

from container_manager.backend import Lifecycle
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError, reason_of
from container_manager.rpc.health_servicer import HealthServicer
from container_manager.scheduling.bot_operations import BotOperations

CHECK_INTERVAL_SECONDS = 1.0
_CHECK_TIMEOUT_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class EngineHealth:
    """Pings the engine every second and sets the health of every listener accordingly."""

    def __init__(
        self,
        servicers: Collection[HealthServicer],
        lifecycle: Lifecycle,
        operations: BotOperations,
        on_checked: Callable[[bool], None],
    ) -> None:
        """``on_checked`` receives, after each check, whether the engine answered."""
        self._servicers = servicers
        self._lifecycle = lifecycle
        self._operations = operations
        self._on_checked = on_checked

    async def run(self) -> None:
        """Check until cancelled. Logs the first result and every change."""
        before: str | None = None
        while True:
            problem = await self._problem()
            self._on_checked(not problem)
            for servicer in self._servicers:
                servicer.set(serving=not problem)
            if problem and problem != before:
                _log.warning("not serving; trying again every second", reason=problem)
            elif not problem and before != "":
                _log.info("the engine answers")
            before = problem
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)

    async def _problem(self) -> str:
        try:
            await self._operations.probe(
                lambda deadline: self._lifecycle.ping(deadline=deadline), Deadline(_CHECK_TIMEOUT_SECONDS)
            )
        except ContainerManagerError as exc:
            return reason_of(exc)
        except Exception as exc:  # noqa: BLE001 - the health must not keep its last value
            _log.exception("unexpected error: the health check failed")
            return reason_of(exc)
        return ""
