"""Binds a unix socket again after its file was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from container_manager.errors import StartupError
from container_manager.sockets.path import SocketPath

CHECK_INTERVAL_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class SocketWatch:
    """Checks twice a second that the path still leads to this service's socket.

    If it does not, binds the path again, with the same checks as at start-up. While another process holds the path,
    logs that and tries again. Open connections are not affected.
    """

    def __init__(self, held: SocketPath, bind: Callable[[], Awaitable[None]]) -> None:
        """``bind`` makes a new socket listen at the path; it raises :class:`StartupError`."""
        self._held = held
        self._bind = bind
        self._told = ""

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            if self._held.leads_here:
                self._told = ""
                continue
            try:
                await self._again()
            except (StartupError, OSError) as exc:
                self._tell(str(exc))
            except Exception as exc:  # noqa: BLE001 - without this task a deleted socket would stay unnoticed
                _log.exception("unexpected error: listening again failed", path=str(self._held.path))
                self._tell(type(exc).__name__)

    async def _again(self) -> None:
        self._held.take()
        await self._bind()
        self._held.bound()
        self._told = ""
        _log.warning("the socket's file was taken away; a new one is bound", path=str(self._held.path))

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            path = str(self._held.path)
            _log.error("new callers do not come here: the socket's file was taken away", path=path, problem=problem)
        self._told = problem
