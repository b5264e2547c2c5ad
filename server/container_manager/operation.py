"""Operations that hold no thread while they wait: generators that yield what they wait for.

    def stop(container_id: str) -> Operation[None]:
        stopped = engine.stop(container_id)  # a Future
        yield Wait(stopped)                  # may take a day
        stopped.result()

Between two waits, an operation blocks no longer than a call to a backend takes. :func:`carry_out` carries one out in
the calling thread; :class:`~container_manager.scheduling.bot_operations.BotOperations` does so for an event loop, with
a worker thread for each part between two waits that may block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from container_manager.deadline import Deadline

T = TypeVar("T")


@dataclass(kw_only=True)
class Wait:
    """Ends as soon as one of these is the case. The operation then finds out for itself which one.

    An operation that goes on to wait for the same yields the same wait again: it adds one callback to the future.
    """

    future: Future[Any] | None = None
    """The future is done."""
    seconds: float | None = None
    """This time has passed."""
    deadline: Deadline | None = None
    """The deadline has passed or is cancelled. Without one, the wait goes on when the caller has given up."""
    rest_blocks: bool = True
    """What follows in this operation until the next wait may block. False: not if the future has succeeded."""
    _callback: Callable[[], None] | None = field(default=None, init=False, repr=False, compare=False)
    _is_added: bool = field(default=False, init=False, repr=False, compare=False)

    def longest(self) -> float | None:
        """Seconds until it ends at the latest; ``None``: unknown."""
        remaining = None if self.deadline is None else self.deadline.remaining()
        return min((each for each in (self.seconds, remaining) if each is not None), default=None)

    @property
    def rest_may_block(self) -> bool:
        """Whether what follows until the next wait may block, now that this one has ended."""
        future = self.future
        has_succeeded = future is not None and future.done() and not future.cancelled() and not future.exception()
        return self.rest_blocks or not has_succeeded

    @contextmanager
    def on_end(self, callback: Callable[[], None]) -> Iterator[None]:
        """In this context, call ``callback``, in any thread, when the future is done or the deadline is cancelled."""
        self._callback = callback
        if self.future is not None and not self._is_added:
            self._is_added = True
            self.future.add_done_callback(self._future_done)
        elif self.future is not None and self.future.done():
            callback()
        take_back = None if self.deadline is None else self.deadline.on_cancel(callback)
        try:
            yield
        finally:
            self._callback = None
            if take_back is not None:
                take_back()

    def _future_done(self, _future: Future[Any]) -> None:
        if (callback := self._callback) is not None:
            callback()


@dataclass(kw_only=True)
class Pull(Wait):
    """A wait for an image, which takes as long as its registry does."""


@dataclass(kw_only=True)
class GracePeriod(Wait):
    """A wait for a container that was asked to end, and that the backend kills after its grace period.

    Another call may end the grace period early: see :mod:`container_manager.scheduling.grace_periods`.
    """

    grace_seconds: float
    """How long the backend lets it run."""
    kill: Callable[[], Future[None]]
    """Kill what was asked to end, and nothing else; has no effect if that has ended. Does not block."""
    gives_way: bool = False
    """The container was not asked to end. Only a call that is certain to end it ends the wait early."""
    ended_early: bool = False
    """:attr:`kill` was called."""
    never_begins: Callable[[], bool] = lambda: False
    """Whether what is waited for was cancelled, with the caller's deadline, before it had begun."""


Operation = Generator[Wait, None, T]


def at_once(call: Callable[[], T]) -> Operation[T]:
    """A function as an operation, which waits for nothing."""
    yield from ()
    return call()


def carry_out(operation: Operation[T]) -> T:
    """The operation's result; blocks while it waits."""
    with closing(operation):
        while True:
            try:
                wait = next(operation)
            except StopIteration as end:
                result: T = end.value
                return result
            ended = threading.Event()
            with wait.on_end(ended.set):
                ended.wait(wait.longest())
