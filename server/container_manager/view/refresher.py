"""Updates single containers of the view by inspecting them.

Code that knows or suspects a change touches the container by its id, or by its bot if the id is unknown. One task at a
time inspects a key. A touch during an inspection causes another one, so the last inspection always begins after the
last touch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress

from container_manager.backend import Created, Listed, Source
from container_manager.errors import EngineTimeoutError, reason_of
from container_manager.model import ContainerState, ContainerStatus, owned_bot
from container_manager.validation import is_bot_id
from container_manager.view.doubts import Doubts
from container_manager.view.inspection import BURST_SECONDS, CHANGE_SECONDS, Inspection
from container_manager.view.later_looks import LaterLooks
from container_manager.view.list_rows import completed, is_listed_as, shows_the_same
from container_manager.view.live_view import LiveView
from container_manager.view.removals import Removals

_INSPECTIONS_AT_ONCE = 16
# The engine does not reliably announce the end of these states.
_PASSING_STATES = (ContainerState.RESTARTING, ContainerState.REMOVING, None)
_FIRST_LOOK_SECONDS = 0.1
_LAST_LOOK_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
# A busy engine delays an inspection for seconds after a process has ended. A resync repeats none: it reads them all.
_REPEATS = 5

_log = logging.getLogger(__name__)


class Refresher:
    """Inspects touched containers and applies the results to the view."""

    def __init__(self, view: LiveView, source: Source) -> None:
        self._view = view
        self._source = source
        self._limit = asyncio.Semaphore(_INSPECTIONS_AT_ONCE)
        self._inspections: dict[str, Inspection] = {}
        self._looks = LaterLooks(self.touch)
        self._doubts = Doubts(view)
        self._removals = Removals(view, self.touch)
        # Start times of the inspections in progress, by the view's clock.
        self._under_way: set[int] = set()
        # The container that each operation of ours is changing, by the operation's start; "": it may make one.
        self._changing: dict[int, str] = {}

    def touch(self, key: str, *, hurry: bool = True, same_name: bool = False) -> None:
        """Have a container inspected, by its id or its bot's id; without ``hurry``, after the burst of events.

        ``same_name``: the reason is no rename.
        """
        self._inspection(key).touch(self._view.tick(), hurry=hurry, same_name=same_name)

    def appeared(self, container_id: str) -> None:
        """The engine has made a container. Any inspection of it, also an earlier one, has seen all that this says."""
        if not self._known_since(container_id, 0):
            self._inspection(container_id)

    def confirm(self, row: Listed, began: int, changed_seconds: float) -> bool:
        """Whether a row of a list that began at ``began`` shows that the view has the container as it is.

        ``changed_seconds``: how long ago it may have changed without an event. Only for a container that has run since
        before that, because the list shows all that can change while it runs; a failed start, for example, it does not.
        """
        status = row.status
        entry = self._view.get(status.container_id)
        if entry is None or entry.partial or row.running_seconds <= changed_seconds:
            return False
        if not self.is_settled(status.container_id) or self._view.doubts & {status.container_id, entry.bot}:
            return False
        if not shows_the_same(row, entry.status):
            return False
        # It may have been inspected since the list began.
        return entry.applied > began or self._view.apply(entry.status, began)

    def begin(self, container_id: str = "") -> int:
        """The view's clock at the start of an operation of ours; what outdates its result is kept until :meth:`end`.

        Events of the bot's container, or of a new one if it has none, wait for that or for :data:`CHANGE_SECONDS`.
        """
        began = self._view.tick()
        self._under_way.add(began)
        self._changing[began] = container_id
        return began

    def end(self, began: int) -> None:
        """The operation has ended and its result has been applied."""
        self._under_way.discard(began)
        if (inspection := self._inspections.get(self._changing.pop(began))) is not None:
            inspection.hurry()
        self._forget_old_removals()

    def created(self, bot_id: str, created: Created, began: int) -> bool:
        """An operation that began at ``began`` has made the bot's container. False: the bot has to be touched."""
        container_id, status = created
        if status is None or owned_bot(status) != bot_id or {bot_id, container_id} & self._view.doubts:
            return False  # an inspection has to end the doubt, or to find who has the bot's name by now
        # An inspection that an event has led to may have been first, or the container may be gone again.
        if container_id not in self._view and self._removals.removed_at(container_id) < began:
            self._apply(bot_id, status, began)
        if (inspection := self._inspections.get(container_id)) is not None:
            inspection.hurry()
        entry = self._view.of_bot(bot_id)
        return entry is not None and entry.status == status

    def removed(self, container_id: str, began: int) -> None:
        """An operation that began at ``began`` has removed a container, or the engine did not have it."""
        if self._removals.removed_at(container_id) < began:
            self._removals.not_found(container_id)
            self._forget(container_id)

    def _inspection(self, key: str) -> Inspection:
        inspection = self._inspections.get(key)
        if inspection is None:
            inspection = self._inspections[key] = Inspection()
            inspection.task = asyncio.get_running_loop().create_task(self._run(key, inspection))
        return inspection

    def gone(self, container_id: str) -> None:
        """The engine says that a container no longer exists. Ids are never reused."""
        self._removals.announced(container_id)
        self._forget(container_id)
        self._forget_old_removals()

    def next_round(self, key: str) -> asyncio.Future[None] | None:
        """Done when the next inspection that starts has ended, or has failed; ``None``: the key is settled."""
        inspection = self._inspections.get(key)
        return None if inspection is None else inspection.next_round()

    async def settled(self, keys: Iterable[str]) -> None:
        """Wait until each key has been inspected since its last touch, or its inspection has failed."""
        if rounds := [each for each in map(self.next_round, keys) if each is not None]:
            await asyncio.wait(rounds)

    async def settled_bot(self, bot_id: str) -> None:
        """As :meth:`settled`, for a bot: its name first, then the container that the view has for it."""
        await self.settled((bot_id,))
        entry = self._view.of_bot(bot_id)
        if entry is not None:
            await self.settled((entry.status.container_id,))

    def doubt_unsettled(self, bot_id: str) -> None:
        """Stop answering for a bot until its touched keys have been inspected."""
        entry = self._view.of_bot(bot_id)
        for key in (bot_id, bot_id if entry is None else entry.status.container_id):
            if (inspection := self._inspections.get(key)) is not None:
                self._doubts.add(key, inspection.touched)

    def knows(self, container_id: str) -> bool:
        """Whether a container is in the view or about to be added."""
        return container_id in self._view or not self.is_settled(container_id)

    def pending(self) -> list[str]:
        """The keys that were touched and not inspected since."""
        return list(self._inspections)

    def is_settled(self, container_id: str) -> bool:
        """Whether a container has been inspected since its last touch and needs no confirmation."""
        return container_id not in self._inspections and not self._removals.is_unconfirmed(container_id)

    def has_settled_name(self, container_id: str) -> bool:
        """Whether a container of the view has been inspected since it may have been renamed; its state may be older."""
        inspection, entry = self._inspections.get(container_id), self._view.get(container_id)
        return inspection is None or (entry is not None and entry.began > inspection.name_touched)

    async def close(self) -> None:
        """Stop all inspections."""
        self._looks.close()
        self._removals.close()
        tasks = [inspection.task for inspection in self._inspections.values() if inspection.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str, inspection: Inspection) -> None:
        try:
            while True:
                await inspection.burst(CHANGE_SECONDS if self._is_ours(key, inspection) else BURST_SECONDS)
                if self._known_since(key, inspection.touched):
                    self._doubts.trust(key, self._view.tick())
                    return
                async with self._limit:
                    began = self._view.tick()
                    inspection.begin_round()
                    self._under_way.add(began)
                    try:
                        done = await self._inspect(key, inspection, began)
                    finally:
                        self._under_way.discard(began)
                if not done:
                    inspection.repeat_round()
                    continue
                inspection.end_round()
                if began > inspection.touched:
                    return
        finally:
            del self._inspections[key]
            inspection.end()
            self._forget_old_removals()

    def _is_ours(self, key: str, inspection: Inspection) -> bool:
        """Whether the events may be those of an operation of ours."""
        return key in self._changing.values() or ("" in self._changing.values() and not inspection.touched)

    def _known_since(self, key: str, touched: int) -> bool:
        """Whether an inspection under another key that began after the touch makes this one unnecessary."""
        if self._removals.removed_at(key) > touched:
            return True
        entry = self._view.get(key)
        return entry is not None and entry.began > touched and not entry.partial

    async def _inspect(self, key: str, inspection: Inspection, began: int) -> bool:
        """Inspect and apply. False: inspect again."""
        by_bot = is_bot_id(key)
        try:
            status = await (self._source.inspect_bot(key) if by_bot else self._source.inspect(key))
            if status is None:
                self._missing(key, began, by_bot=by_bot)
                return True
            if self._removals.removed_at(status.container_id) > began:
                # Removed since, by an event or unconfirmed. Asked by bot: another container may have its place.
                return not by_bot and not self._removals.is_unconfirmed(status.container_id)
            return self._apply(key, status, began)
        except Exception as exc:  # noqa: BLE001 - after any error the view does not answer for the container
            inspection.timeouts += isinstance(exc, EngineTimeoutError)
            if self._view.in_sync and 0 < inspection.timeouts <= _REPEATS and await self._is_listed_unchanged(key):
                return False
            await self._doubt(key, began, exc)
            return True

    def _missing(self, key: str, began: int, *, by_bot: bool) -> None:
        self._doubts.trust(key, began)
        self._looks.stop(key)
        if not by_bot:
            self._removals.not_found(key)
            self._forget(key)
        elif (entry := self._view.of_bot(key)) is not None:
            # Removed or renamed; an inspection by id shows which.
            self.touch(entry.status.container_id)

    def _apply(self, key: str, status: ContainerStatus, began: int) -> bool:
        container_id = status.container_id
        former, before = self._view.of_bot(key), self._view.get(container_id)
        version = None if before is None else before.version
        if not self._view.apply(status, began):
            return False
        self._removals.found(container_id)
        self._doubts.trust(key, began)
        self._doubts.trust(container_id, began)
        if former is not None and former.status.container_id != container_id:
            self.touch(former.status.container_id)
        now = self._view.get(container_id)
        if key != container_id or status.state not in _PASSING_STATES or (now and now.version != version):
            self._looks.stop(key)
            if container_id not in self._view.doubts:
                self._looks.stop(container_id)
        if status.state in _PASSING_STATES and not status.node_unreachable:
            self._looks.schedule(container_id, _FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS)
        return True

    def _forget(self, container_id: str) -> None:
        self._view.remove(container_id)
        self._doubts.forget(container_id)
        self._looks.stop(container_id)

    def _forget_old_removals(self) -> None:
        """Forget removals that no inspection in progress can undo."""
        self._removals.forget(min(self._under_way, default=self._view.tick()), self._inspections)

    async def _is_listed_unchanged(self, key: str) -> bool:
        """Whether the engine's list, which waits for no container, shows one, or that of a bot's name, as the view."""
        entry = self._view.of_bot(key) if is_bot_id(key) else self._view.get(key)
        if entry is None or entry.partial or (is_bot_id(key) and entry.bot is None):
            return False
        return await is_listed_as(self._source, entry.status)

    async def _doubt(self, key: str, began: int, exc: Exception) -> None:
        """Stop answering for a container that cannot be inspected; the view's list shows the engine's list row."""
        if self._removals.removed_at(key) > began:
            return
        if key not in self._view.doubts:
            _log.warning("%s cannot be inspected; trying again: %s", key, reason_of(exc))
        self._doubts.add(key, self._view.tick())
        self._looks.schedule(key, _FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        if is_bot_id(key):
            return
        began = self._view.tick()
        # If the list fails too, the engine itself has a problem, and the synchronizer handles that.
        with suppress(Exception):
            for row, *_ in await self._source.list(key):
                if row.container_id == key and self._removals.removed_at(key) < began:
                    self._view.apply(completed(row, self._view.get(key)), began, partial=True)
