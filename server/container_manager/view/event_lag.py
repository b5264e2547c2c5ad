"""How far the view is behind the engine: from an event there until what it was about is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from container_manager.view.live_view import Entry, LiveView


class _Event(NamedTuple):
    happened_ns: int
    """On the engine's clock."""
    tick: int
    """The view's clock when it was heard of."""


class EventLag:
    """Measures the time from an event at the backend to the view showing its change.

    Events that change nothing are not counted, nor those whose change was shown before they were heard of, as that of
    an operation of ours.
    """

    def __init__(self, view: LiveView, report: Callable[[float], None]) -> None:
        """``tell`` is told of each event how old it was, in seconds, when its change was shown."""
        self._view = view
        self._report = report
        self._events: dict[str, _Event] = {}
        view.add_listener(self)

    def received(self, container_id: str, happened_ns: int) -> None:
        """An event has come. Of several before anything is shown, the first one counts."""
        before = self._events.get(container_id)
        entry = self._view.get(container_id)
        if before is None or (entry is not None and entry.began > before.tick):
            self._events[container_id] = _Event(happened_ns, self._view.tick())

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        event = self._events.get(entry.status.container_id)
        # What was looked at before may be what was so before.
        if event is not None and entry.began > event.tick:
            self._shown(entry, last_unchanged=entry.former)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._shown(entry, last_unchanged=entry.began)

    def lost(self, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view: what comes next is no measure of the events."""
        self._events.clear()

    def regained(self) -> None:
        """Called by the view."""

    def _shown(self, entry: Entry, *, last_unchanged: int) -> None:
        """``last_unchanged``: the view's clock when the last inspection began that found nothing new."""
        event = self._events.pop(entry.status.container_id, None)
        # One that was looked at since the event had changed nothing: this is another change.
        if event is not None and last_unchanged <= event.tick:
            self._report(max(0, time.time_ns() - event.happened_ns) / 1e9)
