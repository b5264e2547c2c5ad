"""Counts how bots' runs end, from the changes of the live view. It costs nothing while nothing changes."""

from __future__ import annotations

from typing import NamedTuple

from container_manager.model import ContainerStatus, ExitReason
from container_manager.view.live_view import Entry

UNKNOWN = "UNKNOWN"


class _Seen(NamedTuple):
    """What the counts contain of one container."""

    end: int | None
    """The time of its last run's end."""
    ended_run: int | None
    """The start time of the run that has ended, unless another has started since."""
    restarts: int
    failure: str
    """Why its last start has failed; empty: it has not."""


class BotRuns:
    """A :class:`~container_manager.view.live_view.Listener` that counts from the first look at each container on."""

    def __init__(self) -> None:
        self.exits = {reason.name: 0 for reason in ExitReason} | {UNKNOWN: 0}
        """Ended runs and failed starts, by reason."""
        self.restarts = 0
        """Restarts by the engine's restart policy."""
        self._seen: dict[str, _Seen] = {}

    def changed(self, entry: Entry) -> None:
        """Called by the view."""
        if entry.partial:
            # A list row does not tell of ends and restarts.
            return
        status = entry.status
        end, reason = _last_end(status)
        ended_run = status.start_time_ns if status.exit_code is not None else None
        failure = status.error if status.exit_reason is ExitReason.START_FAILED else ""
        before = self._seen.get(status.container_id)
        if failure and end is None and before is not None:
            end = before.end
        self._seen[status.container_id] = _Seen(end, ended_run, status.restart_count, failure)
        if before is None:
            return
        if failure and failure != before.failure:
            self.exits[ExitReason.START_FAILED.name] += 1
        # The engine counts a restart when the run before it ends, and sets the count to 0 at a start by hand.
        restarts = max(0, status.restart_count - before.restarts)
        # A stop during the pause before a restart changes the time of the end.
        is_known = end == before.end or (ended_run is not None and ended_run == before.ended_run)
        ends = max(restarts, int(end is not None and not is_known))
        self.restarts += restarts
        self.exits[reason.name if reason is not None else UNKNOWN] += ends

    def removed(self, entry: Entry, version: int) -> None:  # noqa: ARG002 - as the view calls it
        """Called by the view."""
        self._seen.pop(entry.status.container_id, None)

    def lost(self, version: int) -> None:
        """Called by the view; what is missed shows when the containers are compared."""

    def regained(self) -> None:
        """Called by the view."""


def _last_end(status: ContainerStatus) -> tuple[int | None, ExitReason | None]:
    """The time of the last run's end, and its reason; ``None``: there was none, or it is not known."""
    if status.exit_code is not None:
        return status.finish_time_ns, status.exit_reason
    if status.last_exit is not None:
        return status.last_exit.finish_time_ns, status.last_exit.exit_reason
    return None, None
