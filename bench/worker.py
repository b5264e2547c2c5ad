"""A process for each candidate's load, so that no candidate pays for another's threads, memory or interpreter lock.

All candidates are driven by the same code: threads, each with a candidate of its own, that take bots from a queue.
Threads and not asyncio, because raw HTTP and the docker SDK block. What a candidate's client costs (the SDK's, or the
stubs') counts as that candidate's, as it would in the API tier; the service itself is one more process. The process
that conducts the run sleeps while a worker works, and only one worker works at a time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.candidates import Candidate, Setting, factory

VERBS = ("create", "start", "stop", "remove")
_JOIN_SECONDS = 5


class WorkerError(Exception):
    """An operation failed in a worker; the message holds its traceback."""


class Batch(NamedTuple):
    """Some whole lifecycles, in seconds."""

    wall: float
    """From the first one's begin to the last one's end."""
    verbs: list[tuple[float, ...]]
    """Of each lifecycle, the time of each of :data:`VERBS`."""


class Worker:
    """The parent's side; a context manager. :meth:`close` ends the process at any time."""

    def __init__(self, name: str, setting: Setting) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, setting), daemon=True)
        # Ctrl-C reaches the whole process group; ignored signals stay ignored in a new program (execve(2)).
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lifecycles(self, bot_ids: Sequence[str], at_once: int) -> Batch:
        """Create, start, stop with no grace and remove each bot's container, ``at_once`` bots at a time."""
        batch: Batch = self._call("lifecycles", bot_ids, at_once)
        return batch

    def statuses(self, bot_ids: Sequence[str], at_once: int = 1) -> list[float]:
        """Ask for each bot's status; seconds of each call."""
        seconds: list[float] = self._call("statuses", bot_ids, at_once)
        return seconds

    def lists(self, count: int) -> tuple[list[float], int]:
        """List all managed containers ``count`` times; seconds of each call, and how many containers it gave."""
        answer: tuple[list[float], int] = self._call("lists", count)
        return answer

    def create(self, bot_id: str) -> None:
        """Create a bot's container and leave it."""
        self._call("create", bot_id)

    def first_call(self, target: str, bot_id: str) -> float:
        """Connect to a service and ask it for a status; ``time.monotonic()`` when the answer was there."""
        answered: float = self._call("first_call", target, bot_id)
        return answered

    def close(self) -> None:
        """End the process, in the middle of its work if need be."""
        self._connection.close()
        self._process.terminate()
        self._process.join(_JOIN_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _call(self, method: str, *arguments: Any) -> Any:
        self._connection.send((method, arguments))
        try:
            failure, result = self._connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerError(f"{self.name}: its process ended") from None
        if failure:
            raise WorkerError(f"{self.name}: {failure}")
        return result


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


def _serve(connection: Connection, name: str, setting: Setting) -> None:
    work = _Work(name, setting)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("", getattr(work, method)(*arguments))
        except Exception:  # noqa: BLE001 - told to the parent, which ends the run
            answer = (traceback.format_exc(), None)
        connection.send(answer)
