"""The live view together with everything that keeps it current, for the RPC layer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context

from container_manager.backend import Source
from container_manager.errors import EngineUnavailableError
from container_manager.model import ContainerStatus, owned_bot
from container_manager.view.audit import Audit
from container_manager.view.bot_change import BotChange
from container_manager.view.event_lag import EventLag
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher
from container_manager.view.synchronizer import Synchronizer

# One slow answer of an engine says nothing of its events.
_FAILED_CHECKS = 3
_MOST_FAILED_CHECKS = 48
# The service starts to serve before the view is in sync. Syncing takes a second per thousand containers.
_PATIENCE_SECONDS = 10.0


class ViewKeeper:
    """Follows one engine from :meth:`start` to :meth:`close`, on one event loop."""

    def __init__(
        self,
        source: Source,
        encode: Callable[[ContainerStatus], bytes],
        on_event_lag: Callable[[float], None] | None = None,
    ) -> None:
        """``on_event_lag`` receives the age of each event, in seconds, when the view shows its change.

        ``None``: not measured.
        """
        self.view = LiveView(encode, owned_bot)
        self._refresher = Refresher(self.view, source)
        on_event = None if on_event_lag is None else EventLag(self.view, on_event_lag).received
        self._synchronizer = Synchronizer(self.view, source, self._refresher, on_event)
        self.audit = Audit(self.view, source, self._refresher)
        self._failed_checks = 0
        self._tolerated_checks = _FAILED_CHECKS
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def reconnects(self) -> int:
        """How often the keeper has subscribed to the engine's events again after a loss."""
        return max(0, self._synchronizer.subscriptions - 1)

    def start(self) -> None:
        """Start to follow the engine, which need not run yet."""
        self._tasks = [asyncio.create_task(self._synchronizer.run()), asyncio.create_task(self.audit.run())]

    async def close(self) -> None:
        """Stop following the engine. Reads then go to the engine."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._refresher.close()

    def engine_answers(self, answers: bool) -> None:
        """Take the health check's result.

        An engine that does not answer several times in a row may have lost events, and its silent event stream may have
        ended unnoticed. Until then the view answers reads: it has all events that the engine has sent. A stream that
        breaks is lost at once, whatever the checks say.
        """
        if answers:
            self._failed_checks, self._tolerated_checks = 0, _FAILED_CHECKS
            self._synchronizer.answered()
            return
        self._failed_checks += 1
        if self._failed_checks >= self._tolerated_checks:
            self._synchronizer.drop()
            # Reading everything anew must not slow an engine that is too slow for its checks already.
            self._failed_checks = 0
            self._tolerated_checks = min(2 * self._tolerated_checks, _MOST_FAILED_CHECKS)

    def change(self, bot_id: str, *, removes: bool = False, tolerates_stale_state: bool = False) -> BotChange:
        """A change of the bot's container that is about to be made; arguments as of :class:`BotChange`."""
        return BotChange(
            self.view,
            self._refresher,
            self._touch,
            bot_id,
            removes=removes,
            tolerates_stale_state=tolerates_stale_state,
        )

    async def settled(self, bot_id: str) -> None:
        """Wait until the view shows what the last change of the bot has done."""
        await self._refresher.settled_bot(bot_id)

    async def look_at(self, bot_id: str) -> None:
        """Wait until the view has looked at the bot's container again."""
        self._touch(bot_id)
        await self._refresher.settled_bot(bot_id)

    def _touch(self, key: str) -> None:
        # While the engine is not followed, no update is needed: a new connection reads everything.
        if self._synchronizer.following:
            # Not in the call's context: the inspection serves all callers and may cause others for hours.
            Context().run(self._refresher.touch, key)

    async def in_sync(self) -> None:
        """Wait until the view is in sync. Raises the problem if that takes longer than a moment."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._synchronizer.in_sync()
        except TimeoutError:
            raise EngineUnavailableError("the engine's containers are still being read; try again later") from None
