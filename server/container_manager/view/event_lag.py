"""How far the view is behind the engine: from an event there until what it was about is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from container_manager.view.live_view import Entry, LiveView


class _Heard(NamedTuple):
    happened_ns: int
    """On the engine's clock."""
    tick: int
    """The view's clock when it was heard of."""


class EventLag:
    """Measures the time from an event at the backend to the view showing its change.

    Events that change nothing are not counted, nor those whose change was shown before they were heard of, as that of
    an operation of ours.
    """

    def __init__(self, view: LiveView, tell: Callable[[float], None]) -> None:
        """``tell`` is told of each event how old it was, in seconds, when its change was shown."""
        self._view = view
        self._tell = tell
        self._heard: dict[str, _Heard] = {}
        view.add_listener(self)

    def heard(self, container_id: str, happened_ns: int) -> None:
        """An event has come. Of several before anything is shown, the first one counts."""
        before = self._heard.get(container_id)
        entry = self._view.get(container_id)
        if before is None or (entry is not None and entry.began > before.tick):
            self._heard[container_id] = _Heard(happened_ns, self._view.tick())

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        heard = self._heard.get(entry.status.container_id)
        # What was looked at before may be what was so before.
        if heard is not None and entry.began > heard.tick:
            self._shown(entry, looked_at=entry.former)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._shown(entry, looked_at=entry.began)

    def lost(self, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view: what comes next is no measure of the events."""
        self._heard.clear()

    def regained(self) -> None:
        """Called by the view."""

    def _shown(self, entry: Entry, *, looked_at: int) -> None:
        """``looked_at``: the view's clock when the last inspection began that found nothing new."""
        heard = self._heard.pop(entry.status.container_id, None)
        # One that was looked at since the event had changed nothing: this is another change.
        if heard is not None and looked_at <= heard.tick:
            self._tell(max(0, time.time_ns() - heard.happened_ns) / 1e9)
