"""Containers in memory, scripted faults, and notices of changes. Usable from any thread."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from container_manager.backend import Notice
from container_manager.errors import EngineUnavailableError
from container_manager.model import (
    DEFAULT_HOST_IP,
    ContainerConfig,
    ContainerState,
    ContainerStatus,
    LogSource,
    RawEntry,
    container_name,
    newest_of_bot,
)

DEFAULT_IMAGE = "botmaker/openclaw:1"
RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)
"""The states in which the container has a process."""
# How far back the notices of a new subscription go.
_OVERLAP_NS = 1_000_000_000


@dataclass
class Container:
    """One stored container."""

    status: ContainerStatus
    config: ContainerConfig
    """With the defaults of a create."""
    request_id: str = ""
    managed: bool = True
    """False: a foreign container that only has a bot's name."""
    stubborn: bool = False
    """Its program ignores its stop signal."""
    state_mount: str = ""
    log: list[RawEntry] = field(default_factory=list)


class Gate:
    """Holds up the calls that reach it until it is open."""

    def __init__(self) -> None:
        self.opened: Future[None] = Future()

    def open(self) -> None:
        """Let all calls through, now and in future."""
        if not self.opened.done():
            self.opened.set_result(None)

    def wait(self, seconds: float) -> bool:
        """Wait for at most this long; whether it is open."""
        return bool(futures.wait([self.opened], seconds).done)


Step = Exception | Gate | None
"""The outcome of one call: it fails, waits, or is carried out."""


class MemoryStore:
    """All containers; a test changes them with :meth:`add`, :meth:`change` and :meth:`write`."""

    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}
        """By id."""
        self.calls: list[tuple[str, str]] = []
        """Every call of the lifecycle so far: the method's name, and the bot id or ``""``."""
        self.notices_fail = False
        """No notices are available: the live view never trusts itself, and reads go to the lifecycle."""
        self.lock = threading.RLock()
        self._called = threading.Condition(self.lock)
        self._away = False
        self._notices: list[Notice] = []
        self._listeners: set[Callable[[Notice | None], None]] = set()
        self._held_notices: list[Notice] | None = None
        self.actions_after: dict[str, Callable[[], None]] = {}
        self._scripts: dict[tuple[str, str], list[Step]] = {}
        self._last_ns = 0
        self._ids = itertools.count(1)

    # Faults, and the calls so far.

    def script(self, method: str, *steps: Step, bot_id: str = "") -> None:
        """Script the method's next calls, in order; the last step repeats. ``bot_id``: only calls for this bot."""
        with self.lock:
            self._scripts[method, bot_id] = list(steps)

    def after(self, method: str, action: Callable[[], None]) -> None:
        """Have this done after the method's next call, as what the container itself does."""
        self.actions_after[method] = action

    @contextmanager
    def held(self, method: str, bot_id: str = "") -> Iterator[Gate]:
        """Calls of the method wait until the end of the block, or until the gate is opened."""
        gate = Gate()
        self.script(method, gate, bot_id=bot_id)
        try:
            yield gate
        finally:
            self.script(method, None, bot_id=bot_id)
            gate.open()

    def go_away(self) -> None:
        """Fail every call from now on; the stream of notices breaks."""
        with self.lock:
            self._away = True
            self._tell(None)

    def seen(self, *methods: str) -> list[tuple[str, str]]:
        """The calls of these methods so far; by default of all but ``ping``."""
        with self.lock:
            return [call for call in self.calls if call[0] in methods or (not methods and call[0] != "ping")]

    def await_calls(self, method: str, count: int = 1, timeout: float = 60) -> None:
        """Wait for ``count`` calls of the method."""
        with self._called:
            arrived = self._called.wait_for(lambda: len(self.seen(method)) >= count, timeout)
        assert arrived, f"{len(self.seen(method))} of {count} calls of {method} came; all: {Counter(self.calls)}"

    def step(self, method: str, bot_id: str) -> Step:
        """Note a call; returns its scripted outcome."""
        with self._called:
            self.calls.append((method, bot_id))
            self._called.notify_all()
            steps = self._scripts.get((method, bot_id)) or self._scripts.get((method, "")) or [None]
            return steps.pop(0) if len(steps) > 1 else steps[0]

    def pass_step(self, method: str, bot_id: str) -> None:
        """Note a call, and carry out its scripted step: it fails, or waits for as long as the test holds it."""
        step = self.step(method, bot_id)
        if isinstance(step, Gate):
            assert step.wait(60), f"the test never let {method} go on"
        if isinstance(step, Exception):
            raise step

    def check_there(self) -> None:
        """Raise :class:`EngineUnavailableError` after :meth:`go_away`."""
        if self._away:
            raise EngineUnavailableError("the containers in memory are away")

    # Containers.

    def add(
        self,
        bot_id: str,
        state: ContainerState = ContainerState.RUNNING,
        *,
        managed: bool = True,
        stubborn: bool = False,
        **fields: Any,
    ) -> str:
        """Add a container of the bot with these fields; returns its id."""
        with self.lock:
            container = self.create(bot_id)
            container.managed, container.stubborn = managed, stubborn
            if state is not ContainerState.CREATED:
                fields = {"start_time_ns": self.now_ns(), **fields}
            self.set(container, state=state, **fields)
            return container.status.container_id

    def change(self, bot_id: str, **fields: Any) -> None:
        """Change fields of the bot's container, as when something other than the service acts on it."""
        with self.lock:
            container = self.named(bot_id) or self.shown(bot_id)
            assert container is not None
            self.set(container, **fields)

    def write(self, bot_id: str, line: bytes, source: LogSource = LogSource.STDOUT, *, partial: bool = False) -> None:
        """Write to the bot's log."""
        with self.lock:
            container = self.named(bot_id) or self.shown(bot_id)
            assert container is not None
            container.log.append((self.now_ns(), source, line, partial))
            self._tell(Notice(container.status.container_id, gone=False, managed=container.managed))

    def named(self, bot_id: str) -> Container | None:
        """The container with the bot's name."""
        with self.lock:
            return next((each for each in self.containers.values() if each.status.name == container_name(bot_id)), None)

    def shown(self, bot_id: str) -> Container | None:
        """The bot's container: the one with the bot's name, else the newest that was made for it."""
        with self.lock:
            status = newest_of_bot(bot_id, (each.status for each in self.containers.values() if each.managed))
            return None if status is None else self.containers[status.container_id]

    def create(self, bot_id: str, config: ContainerConfig | None = None, request_id: str = "") -> Container:
        """Create a container."""
        with self.lock:
            container_id = f"{next(self._ids):064x}"
            config = _with_defaults(config or ContainerConfig())
            image = config.image
            image_id = image_id_of(image)
            created = ContainerState.CREATED
            status = ContainerStatus(
                container_id,
                bot_id,
                container_name(bot_id),
                created,
                image,
                image_id,
                self.now_ns(),
                hostname=config.hostname,
                labels=tuple(sorted(config.labels.items())),
                request_id=request_id,
            )
            container = self.containers[container_id] = Container(status, config, request_id)
            self._notify(container)
            return container

    def set(self, container: Container, **fields: Any) -> None:
        """Change fields of a container's status."""
        with self.lock:
            container.status = replace(container.status, **fields)
            self._notify(container)

    def delete(self, container: Container) -> None:
        """Delete the container."""
        with self.lock:
            del self.containers[container.status.container_id]
            self._notify(container, gone=True)

    def now_ns(self) -> int:
        """The time in nanoseconds; greater with each call."""
        with self.lock:
            self._last_ns = max(self._last_ns + 1, time.time_ns())
            return self._last_ns

    # Notices.

    @contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Notice | None]]:
        """Notices for the running loop, starting a little before now; ``None``: the stream breaks."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Notice | None] = asyncio.Queue()

        def listener(notice: Notice | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, notice)

        with self.lock:
            begin_ns = self.now_ns() - _OVERLAP_NS
            for notice in self._notices:
                if notice.time_ns >= begin_ns:
                    queue.put_nowait(notice)
            self._listeners.add(listener)
        try:
            yield queue
        finally:
            with self.lock:
                self._listeners.discard(listener)

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """Notices of changes arrive at the end of the block."""
        self._held_notices = []
        try:
            yield
        finally:
            with self.lock:
                held, self._held_notices = self._held_notices, None
                for notice in held:
                    self._send(notice)

    def _notify(self, container: Container, *, gone: bool = False) -> None:
        notice = Notice(container.status.container_id, gone, container.managed, self.now_ns())
        if self._held_notices is None:
            self._send(notice)
        else:
            self._held_notices.append(notice)

    def _send(self, notice: Notice) -> None:
        self._notices.append(notice)
        self._tell(notice)

    def _tell(self, notice: Notice | None) -> None:
        for listener in self._listeners:
            listener(notice)


def _with_defaults(config: ContainerConfig) -> ContainerConfig:
    ports = tuple(replace(port, host_ip=port.host_ip or DEFAULT_HOST_IP) for port in config.ports)
    network = "" if config.network == "bridge" else config.network
    return replace(config, image=config.image or DEFAULT_IMAGE, ports=ports, network=network)


def image_id_of(image: str) -> str:
    """The id of an image in memory."""
    return f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"
