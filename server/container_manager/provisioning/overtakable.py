"""A program that keeps its bot's turn while it runs, and that a later call which ends the bot overtakes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

from container_manager.deadline import Deadline
from container_manager.errors import CapacityExceededError, OperationInProgressError
from container_manager.operation import GracePeriod, Operation

T = TypeVar("T")

Submit = Callable[[Callable[[], T]], "Future[T]"]
"""Runs a function in a thread."""


def overtakable(
    submit: Submit[T], bot_id: str, program: Callable[[], T], seconds: float, deadline: Deadline
) -> Operation[T]:
    """The program's result. It takes no longer than ``seconds``.

    A call that is certain to end the bot waits no longer than its own grace period, as behind any other:
    :class:`OperationInProgressError` then. The program ends with the bot.

    A program that has no thread when the caller gives up never runs: :class:`CapacityExceededError`.
    """
    ended: Future[None] = Future()

    def end() -> Future[None]:
        with suppress(InvalidStateError):
            ended.set_result(None)
        return ended

    work = submit(program)
    work.add_done_callback(lambda _: end())
    deadline.on_cancel(work.cancel)
    yield GracePeriod(future=ended, grace_seconds=seconds, kill=end, gives_way=True, never_begins=work.cancelled)
    if work.cancelled():
        raise CapacityExceededError("no worker came free before the call's deadline; try again later", bot_id=bot_id)
    if not work.done():
        work.cancel()
        raise OperationInProgressError("a later call ends the bot before it has reloaded its secrets", bot_id=bot_id)
    return work.result()
