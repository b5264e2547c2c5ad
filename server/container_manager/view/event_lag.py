"""How far the view lags behind the engine: the time from an event until the view shows its change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from container_manager.view.live_view import Entry, LiveView


class _Event(NamedTuple):
    happened_ns: int
    """Time on the engine's clock."""
    tick: int
    """The view's clock when the event arrived."""


class EventLag:
    """Measures the time from an event at the backend to the view showing its change.

    Does not count events that change nothing, or events whose change the view showed before they arrived, such as
    those of the service's own operations.
    """

    def __init__(self, view: LiveView, report: Callable[[float], None]) -> None:
        """``report`` receives the age of each event, in seconds, when the view shows its change."""
        self._view = view
        self._report = report
        self._events: dict[str, _Event] = {}
        view.add_listener(self)

    def received(self, container_id: str, happened_ns: int) -> None:
        """Note an event. If several arrive before the view shows a change, the first one counts."""
        before = self._events.get(container_id)
        entry = self._view.get(container_id)
        if before is None or (entry is not None and entry.began > before.tick):
            self._events[container_id] = _Event(happened_ns, self._view.tick())

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        event = self._events.get(entry.status.container_id)
        # An inspection that began before the event may show the state before it.
        if event is not None and entry.began > event.tick:
            self._shown(entry, last_unchanged=entry.former)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._shown(entry, last_unchanged=entry.began)

    def lost(self, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view. Later changes come from reading everything again, not from events."""
        self._events.clear()

    def regained(self) -> None:
        """Called by the view."""

    def _shown(self, entry: Entry, *, last_unchanged: int) -> None:
        """``last_unchanged`` is the view's clock at the start of the last inspection that found no change."""
        event = self._events.pop(entry.status.container_id, None)
        # An inspection after the event found no change, so this change has another cause.
        if event is not None and last_unchanged <= event.tick:
            self._report(max(0, time.time_ns() - event.happened_ns) / 1e9)
