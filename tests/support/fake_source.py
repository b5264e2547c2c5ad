"""An engine in memory, as the live view sees one: containers, inspections, events, and their faults.

Every state of a container has its own, growing number, which tells older states from newer ones. The number is in
``image_id``, which the engine's list shows too.

    source = FakeSource()
    key = source.create(bot_id)
    source.change(key, state=ContainerState.RUNNING)
    source.faults[key] = HANG
    source.held.add(other)  # its inspections look at once, and answer when the test lets them
    source.lose_streams()
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from container_manager.backend import Listed, Notice
from container_manager.backends.docker.container_source import INSPECT_TIMEOUT_SECONDS
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.model import ContainerState, ContainerStatus, container_name, newest_of_bot

HANG = "hang"
"""A fault: no answer until the time-out of an inspection."""
LOST = EngineUnavailableError("the fake engine is away")
OVERLAP_SECONDS = 5.0
"""How far back a subscription starts: it repeats the most recent events."""

Fault = Exception | str
Seconds = Callable[[], float]


class Id(str):
    """A container id whose hash, and so the order of sets, is the same in every process."""

    __slots__ = ()

    def __hash__(self) -> int:
        return zlib.crc32(self.encode())


@dataclass
class Inspection:
    """An inspection, in progress or ended."""

    key: str
    began: int
    """The number of the engine's newest state at the start."""
    seen: ContainerStatus | None = None
    """The status that it saw, once it has looked."""
    answered: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def answer(self) -> None:
        """Answer a held inspection with the status that it saw at its start."""
        self.answered.set_result(None)

    def fail(self, exc: Exception = LOST) -> None:
        """Fail a held inspection."""
        self.answered.set_exception(exc)


class FakeSource:
    """In place of :class:`container_manager.backends.docker.container_source.ContainerSource`."""

    def __init__(self, duration: Seconds = lambda: 0.0, lateness: Seconds = lambda: 0.0) -> None:
        """``duration`` is called twice per call, before and after it looks; ``lateness`` once per event."""
        self.containers: dict[str, ContainerStatus] = {}
        self.history: list[tuple[str, ContainerStatus | None]] = [("", None)]
        """Every state so far with the id of its container, by number. A removal is a state, too."""
        self.inspections: list[Inspection] = []
        self.faults: dict[str, Fault] = {}
        """The outcome of inspections, by container or bot."""
        self.denials: Counter[str] = Counter()
        """How many of a container's next inspections find no such container."""
        self.denied: set[str] = set()
        """The containers that an inspection did not find because of that."""
        self.running_since: dict[str, float] = {}
        """When each container became what it is, on the loop's clock; a test may set it back."""
        self.list_fault: Fault | None = None
        self.subscribe_fault: Fault | None = None
        self.held: set[str] = set()
        self.subscriptions: list[float] = []
        """The start of each, in the loop's time."""
        self._duration = duration
        self._lateness = lateness
        self._streams: list[_Stream] = []
        self._told: list[tuple[float, Notice]] = []

    # Events on the engine.

    @property
    def serial(self) -> int:
        """The number of the engine's newest state."""
        return len(self.history) - 1

    def create(self, bot_id: str, name: str = "", *, announce: bool = True, **fields: Any) -> str:
        """Create a container; returns its id. ``name``: by default the bot's."""
        container_id = Id(f"{len(self.history):064x}")
        created = int(1.7e18) + len(self.history) * 500_000_000
        fields = {"state": ContainerState.CREATED, "create_time_ns": created, "image": "botmaker/openclaw:1", **fields}
        status = ContainerStatus(container_id, bot_id, name or container_name(bot_id), image_id="", **fields)
        self._set(container_id, status, announce=announce, created=True)
        return container_id

    def change(self, container_id: str, *, announce: bool = True, managed: bool = True, **fields: Any) -> None:
        """Change fields of a container. ``managed``: as in the event."""
        status = replace(self.containers[container_id], **fields)
        self._set(container_id, status, announce=announce, managed=managed, renamed="name" in fields)

    def remove(self, container_id: str, *, announce: bool = True) -> None:
        """Remove the container."""
        del self.containers[container_id]
        self.history.append((container_id, None))
        if announce:
            self.tell(container_id, gone=True)

    def tell(self, container_id: str, *, gone: bool = False, managed: bool = True, **what: bool) -> None:
        """Send an event, also without a change. ``what``: as a notice has it."""
        notice = Notice(container_id, gone, managed, **what)
        self._told.append((asyncio.get_running_loop().time(), notice))
        for stream in self._streams:
            stream.put(notice, self._lateness())

    def lose_streams(self, exc: Exception | None = LOST) -> None:
        """Every event stream fails, or ends (``None``); undelivered events are lost."""
        for stream in self._streams:
            stream.end(exc)

    def of_bot(self, bot_id: str) -> ContainerStatus | None:
        """The bot's container."""
        return newest_of_bot(bot_id, self.containers.values())

    def began(self, key: str) -> list[Inspection]:
        """All inspections of a key so far."""
        return [inspection for inspection in self.inspections if inspection.key == key]

    # The interface that the view uses.

    async def list(self, container_id: str = "") -> list[Listed]:
        await asyncio.sleep(self._duration())
        rows = [self._listed(each) for key, each in self.containers.items() if container_id in ("", key)]
        await _suffer(self.list_fault)
        await asyncio.sleep(self._duration())
        return rows

    def _listed(self, status: ContainerStatus) -> Listed:
        if status.state is not ContainerState.RUNNING:
            return Listed(row_of(status))
        seconds = asyncio.get_running_loop().time() - self.running_since[status.container_id]
        return Listed(row_of(status), seconds, status.health, status.ports)

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        return await self._inspect(container_id, lambda: self.containers.get(container_id))

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        return await self._inspect(bot_id, lambda: self.of_bot(bot_id))

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Notice]]:
        began = asyncio.get_running_loop().time()
        self.subscriptions.append(began)
        await asyncio.sleep(self._duration())
        await _suffer(self.subscribe_fault)
        stream = _Stream()
        for at, notice in self._told:
            if at >= began - OVERLAP_SECONDS:
                stream.put(notice, self._lateness())
        self._streams.append(stream)
        try:
            yield stream.notices()
        finally:
            self._streams.remove(stream)

    async def _inspect(self, key: str, look: Callable[[], ContainerStatus | None]) -> ContainerStatus | None:
        inspection = Inspection(key, self.serial)
        self.inspections.append(inspection)
        if key in self.held:
            inspection.seen = look()
            await inspection.answered
            return inspection.seen
        await asyncio.sleep(self._duration())
        inspection.seen = look()
        # A wedged container is wedged under its id and under its bot's.
        found_key = inspection.seen.container_id if inspection.seen else key
        await _suffer(self.faults.get(found_key) or self.faults.get(key))
        if inspection.seen is not None and self.denials[found_key]:
            self.denials[found_key] -= 1
            self.denied.add(found_key)
            inspection.seen = None
        await asyncio.sleep(self._duration())
        return inspection.seen

    def _set(
        self,
        container_id: str,
        status: ContainerStatus,
        *,
        announce: bool,
        managed: bool = True,
        **what: bool,
    ) -> None:
        status = self.containers[container_id] = replace(status, image_id=f"sha256:{len(self.history)}")
        self.history.append((container_id, status))
        self.running_since[container_id] = asyncio.get_running_loop().time()
        if announce:
            self.tell(container_id, managed=managed, **what)


class _Stream:
    """The undelivered events of one subscriber, in order."""

    def __init__(self) -> None:
        self._queue: deque[tuple[float, Notice]] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._exc: Exception | None = None

    def put(self, notice: Notice, lateness: float) -> None:
        self._queue.append((asyncio.get_running_loop().time() + lateness, notice))
        self._news.set()

    def end(self, exc: Exception | None) -> None:
        self._ended, self._exc = True, exc
        self._news.set()

    async def notices(self) -> AsyncIterator[Notice]:
        while not self._ended:
            seconds = self._queue[0][0] - asyncio.get_running_loop().time() if self._queue else None
            if seconds is not None and seconds <= 0:
                yield self._queue.popleft()[1]
                continue
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        if self._exc is not None:
            _raise(self._exc)


def serial_of(status: ContainerStatus) -> int:
    """The number of a state."""
    return int(status.image_id.removeprefix("sha256:"))


def row_of(status: ContainerStatus) -> ContainerStatus:
    """The container's row in the engine's list: only the fields that ``status_from_row`` reads."""
    listed = (status.container_id, status.bot_id, status.name, status.state, status.image, status.image_id)
    return ContainerStatus(*listed, (status.create_time_ns or 0) // 1_000_000_000 * 1_000_000_000)


async def _suffer(fault: Fault | None) -> None:
    if fault == HANG:
        await asyncio.sleep(INSPECT_TIMEOUT_SECONDS)
        raise EngineTimeoutError("the fake engine did not answer in time")
    if isinstance(fault, Exception):
        _raise(fault)


def _raise(exc: Exception) -> None:
    """Raise without the traceback of earlier raises, which would grow with each of thousands."""
    raise exc.with_traceback(None)
