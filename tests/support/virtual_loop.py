"""An event loop with a virtual clock: tests wait for no real time, and run the same way each time.

    assert "done" == run(main())

When nothing is ready to run, the clock jumps to the next timer, so that an hour of retries takes milliseconds.
Only tasks, futures and timers work on it: there are no sockets, threads or signals.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# Longer than anything under test; what has not ended after this never will.
_LAST_SECOND = 100_000.0


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop whose time starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        """Errors that the loop reported, such as a task's exception that was never retrieved."""
        self._now = 0.0
        self._selector = self
        self._clock_resolution = 1e-6
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def select(self, timeout: float | None) -> None:
        """Advance the clock instead of waiting for sockets."""
        if timeout is None:
            raise AssertionError(f"deadlock: nothing is left that could happen at second {self._now:.3f}")
        self._now += timeout
        if self._now > _LAST_SECOND:
            raise AssertionError("this does not end")

    def _process_events(self, event_list: None) -> None:
        """Nothing to do: there are no events."""

    def _write_to_self(self) -> None:
        """Nothing to do: the loop never sleeps."""

    @staticmethod
    def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        assert isinstance(loop, VirtualLoop)
        loop.problems.append(f"{context['message']}: {context.get('exception')!r}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of ``main``; fails if a task's exception was never retrieved. Cancels the remaining tasks."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    assert [] == loop.problems
    return result


def now() -> float:
    """The running loop's time, in seconds."""
    return asyncio.get_running_loop().time()


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a coroutine test run on a virtual loop."""

    @functools.wraps(test)
    def on_its_own_loop(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return on_its_own_loop
