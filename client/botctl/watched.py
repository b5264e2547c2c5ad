"""Containers as a watch stream shows them, and what is new in each of its messages."""

from __future__ import annotations

from dataclasses import dataclass

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb


@dataclass(frozen=True)
class Event:
    """One thing that is new."""

    kind: str
    """``snapshot``, ``synced``, ``changed``, ``removed``, ``resynced``: as the stream's own."""
    status: pb.ContainerStatus | None = None
    """The container; of a removed one as it was last seen."""


class Watched:
    """Every container as last told. A stream that is opened anew tells all of them again: only differences count."""

    def __init__(self) -> None:
        self.containers: dict[str, pb.ContainerStatus] = {}
        self._synced = False
        self._told_again: set[str] | None = None

    def reopened(self) -> None:
        """The stream begins, for the first time or anew."""
        self._told_again = set()

    def apply(self, message: observer_pb.WatchContainersResponse) -> list[Event]:
        """Take one message; the events in it."""
        match message.WhichOneof("event"):
            case "snapshot":
                return self._snapshot(message.snapshot)
            case "synced":
                return self._all_told()
            case "changed":
                self.containers[message.changed.container_id] = message.changed
                return [Event("changed", message.changed)]
            case "removed":
                gone = self.containers.pop(message.removed.container_id, None)
                return [Event("removed", gone or _remains(message.removed))]
            case "resynced":
                return [Event("resynced")]
        return []

    def _snapshot(self, status: pb.ContainerStatus) -> list[Event]:
        if self._told_again is not None:
            self._told_again.add(status.container_id)
        before = self.containers.get(status.container_id)
        self.containers[status.container_id] = status
        if not self._synced:
            return [Event("snapshot", status)]
        return [] if before == status else [Event("changed", status)]

    def _all_told(self) -> list[Event]:
        told, self._told_again = self._told_again, None
        gone = [key for key in self.containers if told is not None and key not in told]
        events = [Event("removed", self.containers.pop(key)) for key in gone]
        kind = "resynced" if self._synced else "synced"
        self._synced = True
        return [*events, Event(kind)]


def _remains(removed: observer_pb.Removed) -> pb.ContainerStatus:
    return pb.ContainerStatus(bot_id=removed.bot_id, container_id=removed.container_id)
