"""A change of a bot's container by this service: what the view knows before it, and what it shows after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from container_manager.backend import Created
from container_manager.model import ContainerStatus
from container_manager.view.live_view import LiveView
from container_manager.view.refresher import Refresher

# A change may wait for a worker meanwhile; what was seen longer ago is looked up.
_FRESH_SECONDS = 0.1


class BotChange:
    """One change. :meth:`begin` when it has its bot's turn, then :meth:`end`, then :meth:`settled`."""

    def __init__(
        self,
        view: LiveView,
        refresher: Refresher,
        touch: Callable[[str], None] | None,
        bot_id: str,
        *,
        removes: bool = False,
        tolerates_stale_state: bool = False,
    ) -> None:
        """``touch`` has a container or a bot inspected. ``removes``: its result is the id of a removed container.

        ``tolerates_stale_state``: it may use a container whose state is out of date, since it acts in the same way on a
        container in any state.
        """
        self._view = view
        self._refresher = refresher
        self._touch = touch or refresher.touch
        self._bot_id = bot_id
        self._removes = removes
        self._is_usable = refresher.has_settled_name if tolerates_stale_state else refresher.is_settled
        self._now = asyncio.get_running_loop().time
        self._container: ContainerStatus | None = None
        self._began = 0
        self._began_seconds = 0.0
        # The container that was acted on and has been touched; the bot itself where that is not known.
        self._touched = bot_id
        # Done when an inspection that began after the touch has ended; ``None``: there is none.
        self._looked: asyncio.Future[None] | None = None
        self._is_shown = False
        self.absent = False
        """The bot has no container."""

    @property
    def known(self) -> ContainerStatus | None:
        """The bot's container, if the view vouches for it; safe to read from a worker."""
        return self._container if self._now() - self._began_seconds < _FRESH_SECONDS else None

    def begin(self) -> None:
        """Note what the view knows."""
        entry = self._view.of_bot(self._bot_id)
        container_id = "" if entry is None else entry.status.container_id
        self._began, self._began_seconds = self._refresher.begin(container_id), self._now()
        if not self._view.answers_for(self._bot_id):
            return
        self.absent = entry is None
        # An event that has not been looked into may be of a rename. A container of another name may not be changed.
        if (
            entry is not None
            and entry.bot
            and self._refresher.is_settled(self._bot_id)
            and self._is_usable(entry.status.container_id)
        ):
            self._container = entry.status

    def end(self, work: asyncio.Future[Any] | None) -> None:
        """Take over the outcome: a :class:`Created`, or the id of the container that was acted on, or a failure."""
        try:
            if work is None:
                # Nothing has begun.
                self._is_shown = True
            elif work.cancelled() or work.exception() is not None:
                self._look(self._bot_id)
            else:
                self._take_over(work.result())
        finally:
            self._refresher.end(self._began)

    async def settled(self) -> None:
        """Wait until the view shows what the change has done.

        A caller that gives up leaves the bot in doubt until it does: reads then go to the engine.
        """
        if self._is_shown:
            return
        try:
            if self._looked is not None:
                await asyncio.wait({self._looked})
            if self._touched != self._bot_id:
                if self._shows(self._touched):
                    return
                # Removed or renamed since.
                self._look(self._bot_id)
            await self._refresher.settled_bot(self._bot_id)
        except asyncio.CancelledError:
            # Only an inspection of the bot itself ends the doubt, whatever container was acted on.
            if self._touched != self._bot_id:
                self._look(self._bot_id)
            self._refresher.doubt_unsettled(self._bot_id)
            raise

    def _take_over(self, result: Created | str) -> None:
        # Not in the call's context, as in ViewKeeper: what is started here serves all callers.
        if isinstance(result, Created):
            created = partial(self._refresher.created, self._bot_id, result, self._began)
            self._is_shown = self._view.in_sync and Context().run(created)
        elif self._removes and result and self._view.in_sync:
            Context().run(self._refresher.removed, result, self._began)
            self._is_shown = self._view.of_bot(self._bot_id) is None
        if not self._is_shown:
            acted_on = "" if isinstance(result, Created) or self._removes else result
            self._look(acted_on or self._bot_id)

    def _look(self, key: str) -> None:
        self._touched = key
        self._touch(key)
        # Before the inspection starts: a caller that asks later waits for another one if an event has come meanwhile.
        self._looked = self._refresher.next_round(key)

    def _shows(self, container_id: str) -> bool:
        entry = self._view.of_bot(self._bot_id)
        return entry is not None and entry.bot is not None and entry.status.container_id == container_id
