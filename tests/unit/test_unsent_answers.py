"""Unsent answers are counted until their tasks end; the oldest end first, and sooner while there are many."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from container_manager.errors import CapacityExceededError
from container_manager.scheduling.unsent_answers import (
    CALL_BYTES,
    LONGEST_SECONDS,
    PATIENCE_SECONDS,
    UnsentAnswers,
)
from tests.support.virtual_loop import now, virtual

SIZE = 1_000_000


class Sending:
    """Calls that send answers of :data:`SIZE`; ``ended`` are those that were not taken, with the time."""

    def __init__(self, most: int) -> None:
        self.answers = UnsentAnswers(most * (SIZE + CALL_BYTES), self._end)
        self.ended: list[tuple[str, float]] = []

    def send(self, name: str, seconds: float = 1_000) -> asyncio.Task[None]:
        """A call whose caller takes the answer in so many seconds."""

        async def sent() -> None:
            self.answers.add(SIZE)
            await asyncio.sleep(seconds)

        return asyncio.create_task(sent(), name=name)

    def _end(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        self.ended += [(task.get_name(), round(now(), 1)) for task in tasks]
        for task in tasks:
            task.cancel()


@virtual
async def test_an_answer_that_is_taken_slowly_has_its_time_and_counts_until_then() -> None:
    sending = Sending(10)
    slow, _silent = sending.send("slow", LONGEST_SECONDS - 1), sending.send("silent")
    await asyncio.sleep(LONGEST_SECONDS - 2)
    assert 2 * (SIZE + CALL_BYTES) == sending.answers.bytes
    await slow
    await asyncio.sleep(2)
    assert ([("silent", LONGEST_SECONDS)], 0) == (sending.ended, sending.answers.bytes)


@virtual
async def test_over_half_of_the_bound_the_oldest_give_way_and_the_rest_has_its_time() -> None:
    sending = Sending(8)
    for name in "abcdef":
        sending.send(name)
        await asyncio.sleep(0.01)
    await asyncio.sleep(LONGEST_SECONDS / 2)
    assert [("a", PATIENCE_SECONDS), ("b", PATIENCE_SECONDS + 0.1)] == sending.ended
    await asyncio.sleep(LONGEST_SECONDS)
    assert list("abcdef") == [name for name, _ in sending.ended]
    assert 0 == sending.answers.bytes


@virtual
async def test_over_the_bound_a_call_is_refused_until_there_is_room() -> None:
    sending = Sending(4)
    for name in "abcde":
        sending.send(name)
    await asyncio.sleep(0.1)
    with pytest.raises(CapacityExceededError, match="wait for their callers"):
        sending.answers.check()
    await asyncio.sleep(PATIENCE_SECONDS)
    sending.answers.check()
