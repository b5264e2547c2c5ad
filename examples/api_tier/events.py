"""Server-sent events of all bots: one stream of the service for any number of readers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Collection

import grpc.aio
from google.protobuf.json_format import MessageToJson

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub

KEEP_ALIVE_SECONDS = 15.0
RESUME_SECONDS = 0.5
MAX_RECENT = 1000

_log = logging.getLogger(__name__)
Event = observer_pb.WatchContainersResponse


class Events:
    """Every bot's current status, and the recent changes, from which a reader resumes by the id of its last event."""

    def __init__(self, observer: ContainerObserverStub) -> None:
        self._observer = observer
        self._statuses: dict[str, pb.ContainerStatus] = {}
        # Ids of another run of this process are unknown here.
        self._run = secrets.token_hex(4)
        self._last = 0
        self._recent: deque[Event] = deque(maxlen=MAX_RECENT)
        self._in_sync = False
        self._news = asyncio.Event()

    async def follow(self) -> None:
        """Watch the service for ever, also across its restarts."""
        while True:
            try:
                await self._watch()
            except grpc.aio.AioRpcError as exc:
                if self._in_sync:
                    _log.warning("the events of the bot service have ended (%s); resuming", exc.code().name)
            self._in_sync = False
            await asyncio.sleep(RESUME_SECONDS)

    async def read(self, last_event_id: str, bot_ids: Collection[str]) -> AsyncIterator[str]:
        """The events after this one; if it is too old or unknown, all statuses first."""
        position = self._position(last_event_id)
        yield f"retry: {int(RESUME_SECONDS * 1000)}\n\n"
        while True:
            news, behind = self._news, self._last - position
            if self._in_sync and not 0 <= behind <= len(self._recent):
                position = self._last
                for status in list(self._statuses.values()):
                    if not bot_ids or status.bot_id in bot_ids:
                        # Whoever resumes from here has not seen all, and begins anew.
                        yield _encoded(f"{self._run}-", Event(snapshot=status))
                yield _encoded(f"{self._run}-{position}", Event(synced=observer_pb.Synced()))
            elif self._in_sync:
                for event in list(self._recent)[len(self._recent) - behind :]:
                    position += 1
                    if not bot_ids or _bot_id(event) in {"", *bot_ids}:
                        yield _encoded(f"{self._run}-{position}", event)
            try:
                await asyncio.wait_for(news.wait(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield ": keep-alive\n\n"

    async def _watch(self) -> None:
        found: dict[str, pb.ContainerStatus] = {}
        async for event in self._observer.WatchContainers(observer_pb.WatchContainersRequest()):
            event.ClearField("version")
            kind = event.WhichOneof("event")
            if kind == "snapshot":
                found[event.snapshot.container_id] = event.snapshot
            elif kind == "synced":
                self._synced(found)
            else:
                self._publish(event)

    def _synced(self, found: dict[str, pb.ContainerStatus]) -> None:
        """Publish what has changed while the service could not be watched."""
        known = list(self._statuses.values())
        for status in found.values():
            if status != self._statuses.get(status.container_id):
                self._publish(Event(changed=status))
        for status in known:
            if status.container_id not in found:
                removed = observer_pb.Removed(bot_id=status.bot_id, container_id=status.container_id)
                self._publish(Event(removed=removed))
        self._in_sync = True
        self._publish(Event(resynced=observer_pb.Resynced()))

    def _publish(self, event: Event) -> None:
        if event.HasField("changed"):
            self._statuses[event.changed.container_id] = event.changed
        elif event.HasField("removed"):
            self._statuses.pop(event.removed.container_id, None)
        self._last += 1
        self._recent.append(event)
        self._news.set()
        self._news = asyncio.Event()

    def _position(self, last_event_id: str) -> int:
        run, _, number = last_event_id.partition("-")
        return int(number) if run == self._run and number.isdecimal() and len(number) < 20 else -1


def _bot_id(event: Event) -> str:
    """Empty for an event that concerns all."""
    return event.changed.bot_id or event.removed.bot_id


def _encoded(event_id: str, event: Event) -> str:
    return f"id: {event_id}\nevent: {event.WhichOneof('event')}\ndata: {MessageToJson(event, indent=None)}\n\n"
