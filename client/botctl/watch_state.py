"""The containers that a watch stream has shown, and the events in its messages."""

from __future__ import annotations

from dataclasses import dataclass

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb


@dataclass(frozen=True)
class Event:
    """One event of the stream."""

    kind: str
    """``snapshot``, ``synced``, ``changed``, ``removed`` or ``resynced``, as in the stream."""
    status: pb.ContainerStatus | None = None
    """The container; for ``removed``, its last known status."""


class WatchState:
    """The last status of every container. A reopened stream sends all of them again; only differences are events."""

    def __init__(self) -> None:
        self.containers: dict[str, pb.ContainerStatus] = {}
        self._synced = False
        # The containers in the snapshots of a stream that is not synced yet.
        self._in_snapshots: set[str] | None = None

    def reopened(self) -> None:
        """Call this before each opening of the stream."""
        self._in_snapshots = set()

    def apply(self, message: observer_pb.WatchContainersResponse) -> list[Event]:
        """Applies one message and returns its events."""
        match message.WhichOneof("event"):
            case "snapshot":
                return self._snapshot(message.snapshot)
            case "synced":
                return self._all_snapshots_seen()
            case "changed":
                self.containers[message.changed.container_id] = message.changed
                return [Event("changed", message.changed)]
            case "removed":
                gone = self.containers.pop(message.removed.container_id, None)
                return [Event("removed", gone or _last_known(message.removed))]
            case "resynced":
                return [Event("resynced")]
        return []

    def _snapshot(self, status: pb.ContainerStatus) -> list[Event]:
        if self._in_snapshots is not None:
            self._in_snapshots.add(status.container_id)
        before = self.containers.get(status.container_id)
        self.containers[status.container_id] = status
        if not self._synced:
            return [Event("snapshot", status)]
        return [] if before == status else [Event("changed", status)]

    def _all_snapshots_seen(self) -> list[Event]:
        seen, self._in_snapshots = self._in_snapshots, None
        gone = [key for key in self.containers if seen is not None and key not in seen]
        events = [Event("removed", self.containers.pop(key)) for key in gone]
        kind = "resynced" if self._synced else "synced"
        self._synced = True
        return [*events, Event(kind)]


def _last_known(removed: observer_pb.Removed) -> pb.ContainerStatus:
    return pb.ContainerStatus(bot_id=removed.bot_id, container_id=removed.container_id)
