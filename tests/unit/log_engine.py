"""An engine's log endpoint in memory, with faults that a real engine does not show on demand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineUnavailableError
from container_manager.model import LogSource, RawEntry

SECOND = 1_000_000_000
BEGIN_NS = 1_700_000_000 * SECOND
OUT, ERR = LogSource.STDOUT, LogSource.STDERR
CONTAINER = "c1"


def raw(after_ns: int, text: bytes = b"text", source: LogSource = OUT, *, partial: bool = False) -> RawEntry:
    """An entry, ``after_ns`` after a fixed time."""
    return (BEGIN_NS + after_ns, source, text, partial)


def stamp(time_ns: int) -> bytes:
    """The time as the engine writes it in front of an entry."""
    seconds, nanoseconds = divmod(time_ns, SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z ".encode()


def frame(entry: RawEntry) -> bytes:
    """An entry as the engine sends it."""
    time_ns, source, text, partial = entry
    payload = stamp(time_ns) + text + (b"" if partial else b"\n")
    return struct.pack(">BxxxL", 1 if source is OUT else 2, len(payload)) + payload


def last_of(entries: Sequence[RawEntry], tail: int | None) -> list[RawEntry]:
    """The last ``tail`` entries."""
    return list(entries if tail is None else entries[len(entries) - min(tail, len(entries)) :])


class LogEngine:
    """Stands in for an ``AsyncEngineClient`` and for the ``Versions`` of its one container, which runs at the start.

    Use it on one event loop, such as a virtual one; :meth:`write` and the other changes take effect at once.
    """

    def __init__(self, entries: Sequence[RawEntry] = ()) -> None:
        self.entries = list(entries)
        self.dropped = 0
        """How many entries have left the log."""
        self.runs = True
        self.requests: list[Mapping[str, str]] = []
        """The parameters of every request for the log."""
        self.inspected = 0
        self.open_streams = 0
        self.sent_bytes = 0
        self.lost = False
        """The engine refuses connections."""
        self.rejection: Exception | None = None
        """The error of every request."""
        self.log_rejection: Exception | None = None
        """The error of requests for the log."""
        self.cuts: list[int | None] = []
        """The next answers break off after this many bytes, one answer for each number; ``None``: they do not."""
        self.chunk_bytes = 65_536
        self.hold_after: asyncio.Event | None = None
        """An answer waits for this after its first bytes."""
        self.hold_from = 0
        """That many answers are not held."""
        self.mangle: Callable[[bytes], bytes] = lambda data: data
        """Applied to all bytes that are sent."""
        self.deaf = False
        """Followers receive nothing any more."""
        self.repeated: list[RawEntry] = []
        """Also sent to followers, once, although it is not at this place in the log."""
        self.ends_at_once = False
        """Following ends after the current entries, although the container runs."""
        self.waits = 0
        """The number of calls that waited for a change."""
        self._version: int | None = 1
        self._ends = 0
        self._stirred = asyncio.Condition()

    @property
    def written(self) -> int:
        """How many entries the container has written so far."""
        return self.dropped + len(self.entries)

    def drop(self, count: int) -> None:
        """Remove the oldest entries, as by rotation."""
        del self.entries[:count]
        self.dropped += count

    async def write(self, *entries: RawEntry) -> None:
        """Let the container write these entries."""
        self.entries += entries
        await self._stir()

    async def stop(self, *, told: bool = True) -> None:
        """End its process. Without ``told`` nobody is notified of the change."""
        self.runs = False
        self._ends += 1
        await self.change(told=told)

    async def start(self, *, told: bool = True) -> None:
        """Start it again."""
        self.runs = True
        await self.change(told=told)

    async def remove(self) -> None:
        """Remove it."""
        self.runs = False
        self._ends += 1
        self.rejection = EngineRejectedError(404, f"No such container: {CONTAINER}")
        self._version = None
        await self._stir()

    async def end_streams(self) -> None:
        """End the streams of all followers, although the container runs."""
        self._ends += 1
        await self._stir()

    async def deny(self) -> None:
        """Let the versions report the container as gone, although it exists."""
        self._version = None
        await self._stir()

    async def find(self) -> None:
        """Let the versions report the container again."""
        self._version = 1
        await self._stir()

    async def change(self, *, told: bool = True) -> None:
        """Change something about it."""
        if told and self._version is not None:
            self._version += 1
        await self._stir()

    async def lose(self) -> None:
        """Stop the engine in the middle of its answers."""
        self.lost = True
        await self._stir()

    async def come_back(self) -> None:
        """Start the engine again."""
        self.lost = False
        await self._stir()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition."""
        async with asyncio.timeout(100):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)

    async def _stir(self) -> None:
        async with self._stirred:
            self._stirred.notify_all()

    # In place of the client.

    async def get_json(self, path: str) -> Any:
        """The container's inspect document."""
        assert path == f"/containers/{CONTAINER}/json"
        self.inspected += 1
        self._answer()
        return {"State": {"Running": self.runs, "Restarting": False}}

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Any]:
        """The log."""
        assert path == f"/containers/{CONTAINER}/logs"
        assert params["stdout"] == params["stderr"] == params["timestamps"] == "1"
        self.requests.append(params)
        self._answer()
        if self.log_rejection is not None:
            raise self.log_rejection
        self.open_streams += 1
        stream = _Stream(self._chunks(params, self.cuts.pop(0) if self.cuts else None))
        try:
            yield stream
        finally:
            await stream.close()
            self.open_streams -= 1

    def _answer(self) -> None:
        if self.lost:
            raise EngineUnavailableError("the engine cannot be reached")
        if self.rejection is not None:
            raise self.rejection

    async def _chunks(self, params: Mapping[str, str], cut: int | None) -> AsyncGenerator[bytes, None]:
        assert "since" not in params, "the clock may be set"
        tail = int(params["tail"]) if "tail" in params else None
        left, told = cut, 0
        ends, begins = self._ends, True
        while True:
            news = last_of(self.entries[max(told - self.dropped, 0) :], tail if begins else None)
            told, begins = self.written, False
            data = self.mangle(b"".join(map(frame, news)))
            for begin in range(0, len(data), self.chunk_bytes):
                chunk = data[begin : begin + self.chunk_bytes]
                if left is not None and left < len(chunk):
                    self.sent_bytes += left
                    yield chunk[:left]
                    raise EngineUnavailableError("the connection was reset")
                left = None if left is None else left - len(chunk)
                self.sent_bytes += len(chunk)
                yield chunk
                if self.hold_after is not None and len(self.requests) > self.hold_from:
                    await self.hold_after.wait()
            if params.get("follow") == "1" and self.repeated:
                repeated, self.repeated = self.repeated, []
                yield b"".join(map(frame, repeated))
            ended = self.ends_at_once or not self.runs or ends != self._ends
            if params.get("follow") != "1" or (ended and told == self.written):
                if left is not None:
                    raise EngineUnavailableError("the connection was reset")
                return
            async with self._stirred:
                await self._stirred.wait_for(lambda told=told: self._has_news(told) or ends != self._ends)
            if self.lost:
                raise EngineUnavailableError("the connection was reset")

    def _has_news(self, told: int) -> bool:
        news = self.written > told or bool(self.repeated)
        return (news and not self.deaf) or not self.runs or self.lost

    # In place of the versions.

    def version(self, container_id: str) -> int | None:
        """The version of the container's last change."""
        assert container_id == CONTAINER
        return self._version

    async def await_change(self, container_id: str, version: int) -> int | None:
        """Wait for another version."""
        assert container_id == CONTAINER
        self.waits += 1
        async with self._stirred:
            await self._stirred.wait_for(lambda: self._version != version)
        return self._version


class _Stream:
    """An answer. A cancelled read loses no bytes."""

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self._chunks = chunks
        self._next: asyncio.Task[bytes] | None = None

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        self._next = self._next or asyncio.create_task(self._read())
        data = await asyncio.shield(self._next)
        self._next = None
        return data

    async def _read(self) -> bytes:
        return await anext(self._chunks, b"")

    async def close(self) -> None:
        """Cancel a read in progress, and close."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._chunks.aclose()
