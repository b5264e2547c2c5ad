"""Clients that watch containers, for a process of their own: by frames alone, and by ``grpc.aio``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bench.http2_streams import Streams
from botmaker.container.v1 import container_observer_pb2 as pb

WATCH_METHOD = "/botmaker.container.v1.ContainerObserver/WatchContainers"
_OPEN_SECONDS = 60.0
_CHANGE_SECONDS = 20.0


class Arrival(NamedTuple):
    """When one message reached the watchers of a process, in ``time.time_ns()``."""

    first_ns: int
    last_ns: int
    messages: list[bytes]
    """The different ones that came; all watchers should be told the same."""


class Watchers(Protocol):
    """Some watchers of all containers. The methods are called one after another."""

    def open(self) -> None:
        """Open the streams and read what there is, until each is in sync."""

    def await_change(self) -> Arrival:
        """Read until each has been told something."""


class _Tally:
    """Who has been told, and when."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._told: set[Hashable] = set()
        self._first_ns = 0
        self._last_ns = 0
        self._messages: set[bytes] = set()
        self.synced: set[Hashable] = set()

    def add(self, watcher: Hashable, message: bytes) -> None:
        self._last_ns = time.time_ns()
        self._first_ns = self._first_ns or self._last_ns
        self._messages.add(message)
        if len(self.synced) < self._count:
            if pb.WatchContainersResponse.FromString(message).HasField("synced"):
                self.synced.add(watcher)
        else:
            self._told.add(watcher)

    def all_synced(self) -> bool:
        return len(self.synced) == self._count

    def all_told(self) -> bool:
        return len(self._told) == self._count

    def begin(self) -> None:
        self._told.clear()
        self._messages.clear()
        self._first_ns = 0

    def arrival(self) -> Arrival:
        return Arrival(self._first_ns, self._last_ns, list(self._messages))


class FrameWatchers:
    """Watchers that cost next to nothing (``bench.http2_streams``)."""

    def __init__(self, socket: str, method: str, connections: int, each: int) -> None:
        self._method, self._connections, self._each = method, connections, each
        self._tally = _Tally(connections * each)
        self._streams = Streams(Path(socket), self._tally.add)

    def open(self) -> None:
        request = pb.WatchContainersRequest().SerializeToString()
        self._streams.open(self._method, request, connections=self._connections, each=self._each)
        self._streams.read(self._tally.all_synced, _OPEN_SECONDS)
        self._tally.begin()

    def await_change(self) -> Arrival:
        self._tally.begin()
        self._streams.read(self._tally.all_told, _CHANGE_SECONDS)
        return self._tally.arrival()


class AioWatchers:
    """Watchers as callers write them, but that they do not decode what they are told."""

    def __init__(self, socket: str, method: str, connections: int, each: int) -> None:
        self._target, self._method, self._connections, self._each = f"unix:{socket}", method, connections, each
        self._tally = _Tally(connections * each)
        self._runner = asyncio.Runner()
        self._news = asyncio.Event()
        self._done: Callable[[], bool] = self._tally.all_synced
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        self._runner.run(self._open())

    def await_change(self) -> Arrival:
        self._tally.begin()
        self._runner.run(self._until(self._tally.all_told, _CHANGE_SECONDS))
        return self._tally.arrival()

    async def _open(self) -> None:
        import grpc.aio

        # Each with a connection of its own, instead of one that all share.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        request = pb.WatchContainersRequest().SerializeToString()
        for connection in range(self._connections):
            channel = grpc.aio.insecure_channel(self._target, options=options)
            watch: Any = channel.unary_stream(self._method)
            self._tasks += [
                asyncio.create_task(self._read((connection, number), watch(request))) for number in range(self._each)
            ]
        await self._until(self._tally.all_synced, _OPEN_SECONDS)

    async def _read(self, watcher: Hashable, call: Any) -> None:
        try:
            async for message in call:
                self._tally.add(watcher, message)
                if self._done():
                    self._news.set()
        finally:
            self._news.set()

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        self._done = done
        self._news.clear()
        async with asyncio.timeout(seconds):
            while not done():
                await self._news.wait()
                self._news.clear()
                for task in self._tasks:
                    if task.done():
                        await task
