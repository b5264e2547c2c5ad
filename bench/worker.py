"""A process for each candidate's load, so that no candidate pays for another's threads, memory or interpreter lock.

All candidates are driven by the same code: threads, each with a candidate of its own, that take bots from a queue.
Threads and not asyncio, because raw HTTP and the docker SDK block. What a candidate's client costs (the SDK's, or the
stubs') counts as that candidate's, as it would in the API tier; the service itself is one more process. The process
that conducts the run sleeps while a worker works, and only one worker works at a time.
"""

from __future__ import annotations

import importlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from bench.candidates import Candidate, Setting, factory
from bench.child import Child

VERBS = ("create", "start", "stop", "remove")
_SYNC_SECONDS = 60


class Batch(NamedTuple):
    """Some whole lifecycles, in seconds."""

    wall: float
    """From the first one's begin to the last one's end."""
    verbs: list[tuple[float, ...]]
    """Of each lifecycle, the time of each of :data:`VERBS`."""


class Worker(Child):
    """The parent's side."""

    def __init__(self, name: str, setting: Setting) -> None:
        super().__init__(name, _Work, name, setting)

    def lifecycles(self, bot_ids: Sequence[str], at_once: int) -> Batch:
        """Create, start, stop with no grace and remove each bot's container, ``at_once`` bots at a time."""
        batch: Batch = self.call("lifecycles", bot_ids, at_once)
        return batch

    def statuses(self, bot_ids: Sequence[str], at_once: int = 1) -> list[float]:
        """Ask for each bot's status; seconds of each call."""
        seconds: list[float] = self.call("statuses", bot_ids, at_once)
        return seconds

    def lists(self, count: int) -> tuple[list[float], int]:
        """List all managed containers ``count`` times; seconds of each call, and how many containers it gave."""
        answer: tuple[list[float], int] = self.call("lists", count)
        return answer

    def create(self, bot_id: str) -> None:
        """Create a bot's container and leave it."""
        self.call("create", bot_id)

    def first_call(self, target: str, bot_id: str) -> float:
        """Connect to a service and ask it for a status; ``time.monotonic()`` when the answer was there."""
        answered: float = self.call("first_call", target, bot_id)
        return answered

    def first_synced(self, target: str, bot_id: str) -> float:
        """Watch a bot until the service knows all containers; ``time.monotonic()`` when it said so."""
        synced: float = self.call("first_synced", target, bot_id)
        return synced


class _Work:
    """The worker's side."""

    def __init__(self, name: str, setting: Setting) -> None:
        self._make = factory(name, setting)
        self._candidates: list[Candidate] = []

    def lifecycles(self, bot_ids: Sequence[str], at_once: int) -> Batch:
        done: list[tuple[float, ...]] = []

        def lifecycle(candidate: Candidate, bot_id: str) -> None:
            times = [time.perf_counter()]
            for verb in VERBS:
                getattr(candidate, verb)(bot_id)
                times.append(time.perf_counter())
            done.append(tuple(end - begin for begin, end in itertools.pairwise(times)))

        wall = self._in_threads(lifecycle, bot_ids, at_once)
        return Batch(wall, done)

    def statuses(self, bot_ids: Sequence[str], at_once: int) -> list[float]:
        done: list[float] = []

        def status(candidate: Candidate, bot_id: str) -> None:
            begun = time.perf_counter()
            candidate.status(bot_id)
            done.append(time.perf_counter() - begun)

        self._in_threads(status, bot_ids, at_once)
        return done

    def lists(self, count: int) -> tuple[list[float], int]:
        candidate = self._for_threads(1)[0]
        done: list[float] = []
        found = 0
        for _ in range(count):
            begun = time.perf_counter()
            found = candidate.list()
            done.append(time.perf_counter() - begun)
        return done, found

    def create(self, bot_id: str) -> None:
        self._for_threads(1)[0].create(bot_id)

    def first_call(self, target: str, bot_id: str) -> float:
        from botmaker.container.v1 import container_manager_pb2 as pb
        from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
        from container_manager_client import connect

        with connect(target) as channel:
            pb_grpc.ContainerManagerStub(channel).GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
            return time.monotonic()

    def warm_up(self) -> None:
        """Load what :meth:`first_synced` needs."""
        for name in ("botmaker.container.v1.container_observer_pb2_grpc", "container_manager_client"):
            importlib.import_module(name)

    def first_synced(self, target: str, bot_id: str) -> float:
        import grpc

        from botmaker.container.v1 import container_observer_pb2 as pb
        from botmaker.container.v1 import container_observer_pb2_grpc as pb_grpc
        from container_manager_client import connect

        ends = time.monotonic() + _SYNC_SECONDS
        with connect(target) as channel:
            stub = pb_grpc.ContainerObserverStub(channel)
            while True:
                try:
                    for response in stub.WatchContainers(pb.WatchContainersRequest(bot_ids=[bot_id])):
                        if response.HasField("synced"):
                            return time.monotonic()
                except grpc.RpcError:
                    # It gives up on a watcher that it keeps waiting for long.
                    if time.monotonic() > ends:
                        raise

    def _in_threads(self, task: Callable[[Candidate, str], None], bot_ids: Sequence[str], at_once: int) -> float:
        """Run the task for each bot; seconds from the first begin to the last end."""
        waiting = deque(bot_ids)
        ready = threading.Barrier(at_once + 1)
        failures: list[BaseException] = []

        def work(candidate: Candidate) -> None:
            ready.wait()
            try:
                while waiting and not failures:
                    with suppress(IndexError):
                        task(candidate, waiting.popleft())
            except BaseException as exc:  # noqa: BLE001 - raised again below
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(candidate,)) for candidate in self._for_threads(at_once)]
        for thread in threads:
            thread.start()
        ready.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - begun
        if failures:
            raise failures[0]
        return wall

    def _for_threads(self, count: int) -> list[Candidate]:
        while len(self._candidates) < count:
            self._candidates.append(self._make())
        return self._candidates[:count]
