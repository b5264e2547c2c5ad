"""Tells the stats feed which containers run, as the live view shows them."""

from __future__ import annotations

from container_manager.model import ContainerState, ContainerStatus
from container_manager.stats.feed import StatsFeed
from container_manager.view.live_view import Entry, LiveView

_SAMPLED_STATES = (ContainerState.RUNNING, ContainerState.PAUSED)


class RunningContainers:
    """A listener of the view, from before its first container on. Of several containers of a bot, one counts."""

    def __init__(self, feed: StatsFeed, view: LiveView) -> None:
        self._feed = feed
        self._view = view

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        self._update(entry.status)

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._feed.ended(entry.status.container_id)
        if entry.status.bot_id and (shown := self._view.of_bot(entry.status.bot_id)) is not None:
            self._update(shown.status)

    def lost(self, version: int) -> None:
        """Called by the view. What ran then is sampled on: a container that has ended gives no sample."""

    def regained(self) -> None:
        """Called by the view."""

    def _update(self, status: ContainerStatus) -> None:
        """Take over the state of a container, or of the one that the view shows for its bot instead."""
        shown = self._view.of_bot(status.bot_id) if status.bot_id else None
        if shown is not None:
            status = shown.status
            for running in self._feed.running(frozenset((status.bot_id,))):
                if running.container_id != status.container_id:
                    self._feed.ended(running.container_id)
        if status.state in _SAMPLED_STATES:
            self._feed.runs(status.container_id, status.bot_id, status.start_time_ns)
        else:
            self._feed.ended(status.container_id)
