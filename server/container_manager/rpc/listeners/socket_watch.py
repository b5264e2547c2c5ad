"""A unix socket whose file was deleted: it is noticed, and the path bound anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from container_manager.errors import StartupError
from container_manager.rpc.listeners.socket_path import SocketPath

CHECK_INTERVAL_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class SocketWatch:
    """Looks twice a second whether the path still leads to our socket.

    Where it does not, the path is taken as at start-up and bound anew, unless somebody else is there by now: that is
    logged, and tried again until they have gone. Connections that are open go on, whatever becomes of the path.
    """

    def __init__(self, held: SocketPath, bind: Callable[[], Awaitable[None]]) -> None:
        """``bind`` has a further socket listen at the path; it raises :class:`StartupError`."""
        self._held = held
        self._bind = bind
        self._told = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            if self._held.leads_here:
                self._told = ""
                continue
            try:
                await self._again()
            except (StartupError, OSError) as exc:
                self._tell(str(exc))
            except Exception as exc:  # noqa: BLE001 - without this task no deleted socket would be noticed again
                _log.exception("a bug: listening anew failed unexpectedly", path=str(self._held.path))
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
