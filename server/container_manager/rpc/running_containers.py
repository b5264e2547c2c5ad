"""Tells the stats feed which containers run, as the live view shows them."""

from __future__ import annotations

from container_manager.model import ContainerState
from container_manager.stats.feed import StatsFeed
from container_manager.view.live_view import Entry

_SAMPLED_STATES = (ContainerState.RUNNING, ContainerState.PAUSED)


class RunningContainers:
    """A listener of the view, from before its first container on."""

    def __init__(self, feed: StatsFeed) -> None:
        self._feed = feed

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        status = entry.status
        if status.state in _SAMPLED_STATES:
            self._feed.runs(status.container_id, status.bot_id, status.start_time_ns)
        else:
            self._feed.ended(status.container_id)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._feed.ended(entry.status.container_id)

    def lost(self, version: int) -> None:
        """Called by the view. What ran then is sampled on: a container that has ended gives no sample."""

    def regained(self) -> None:
        """Called by the view."""
