"""Operations that start and end under the control of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

from container_manager.deadline import Deadline
from container_manager.operation import Operation, Wait
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool

A, B = "bot-a", "bot-b"


class Work:
    """An operation that runs until the test releases it."""

    def __init__(self, outcome: Any = "done") -> None:
        self.begun, self.go, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.outcome = outcome
        self.deadline: Deadline | None = None

    def __call__(self, deadline: Deadline) -> Any:
        self.deadline = deadline
        self.begun.set()
        assert self.go.wait(60), "the test never let it go"
        self.ended.set()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def making_works() -> Iterator[Callable[..., Work]]:
    """Creates operations; all are released at the end."""
    made: list[Work] = []

    def make(outcome: Any = "done") -> Work:
        made.append(Work(outcome))
        return made[-1]

    yield make
    for work in made:
        work.go.set()


def run(scenario: Callable[[BotOperations], Awaitable[None]], workers: int = 4) -> None:
    """Run a scenario; asserts that no lock and no change is left."""

    async def main() -> None:
        operations = BotOperations(workers)
        try:
            await asyncio.wait_for(scenario(operations), 20)
            assert await operations.drain(10)
            await asyncio.sleep(0)
            assert 0 == len(operations._turns) == len(operations._reading) == len(operations._grace_periods)
            assert set() == operations.workers._jobs
            assert 0 == operations.changes_under_way
        finally:
            operations.close()

    asyncio.run(main())


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


def change(operations: BotOperations, bot: str, work: Any, seconds: float | None = None) -> asyncio.Task[Any]:
    return asyncio.create_task(operations.change(WorkerPool.CHANGE, bot, work, Deadline(seconds)))


class Waiting:
    """An operation that waits for a future, and gives up with its caller if it is to."""

    def __init__(self, *, gives_up: bool = False, kind: type[Wait] = Wait) -> None:
        self._kind = kind
        self.future: Future[str] = Future()
        self.begun, self.ended = threading.Event(), threading.Event()
        self._gives_up = gives_up

    def __call__(self, deadline: Deadline) -> Operation[str]:
        self.begun.set()
        try:
            yield self._kind(future=self.future, deadline=deadline if self._gives_up else None)
            if not self.future.done():
                deadline.check()
            return self.future.result()
        finally:
            self.ended.set()
