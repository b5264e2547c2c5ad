"""A slow engine keeps its view; a silent or lost one does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from container_manager.model import ContainerState
from container_manager.view.keeper import ViewKeeper
from tests.support.fake_source import FakeSource
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT

RUNNING = ContainerState.RUNNING


@asynccontextmanager
async def keeping(source: FakeSource) -> AsyncIterator[ViewKeeper]:
    """A keeper that is in sync, and has inspected all that there is."""
    keeper = ViewKeeper(source, lambda status: status.image_id.encode())
    keeper.start()
    await keeper.in_sync()
    source.inspections.clear()
    try:
        yield keeper
    finally:
        await keeper.close()


@pytest.mark.parametrize("failures", [1, 2])
@virtual
async def test_slow_answers_lose_nothing_and_cost_no_inspection(failures: int) -> None:
    source = FakeSource()
    key = source.create(BOT, announce=False, state=RUNNING)
    async with keeping(source) as keeper:
        for _ in range(10):
            for answers in [*[False] * failures, True]:
                keeper.engine_answers(answers=answers)
                await asyncio.sleep(1)
                assert keeper.view.in_sync
        assert (1, []) == (len(source.subscriptions), source.inspections)
        # Events come meanwhile, and the view shows what they tell of.
        keeper.engine_answers(answers=False)
        source.change(key, state=ContainerState.PAUSED)
        await asyncio.sleep(0.1)
        entry = keeper.view.of_bot(BOT)
        assert entry is not None
        assert (True, ContainerState.PAUSED) == (keeper.view.answers_for(BOT), entry.status.state)


@virtual
async def test_an_engine_that_is_silent_several_times_in_a_row_is_not_answered_for() -> None:
    source = FakeSource()
    source.create(BOT, announce=False, state=RUNNING)
    async with keeping(source) as keeper:
        source.list_fault = "hang"
        for _ in range(3):
            keeper.engine_answers(answers=False)
        await asyncio.sleep(0.1)
        assert (False, False) == (keeper.view.in_sync, keeper.view.answers_for(BOT))
        source.list_fault = None
        keeper.engine_answers(answers=True)
        await asyncio.sleep(5)
        assert keeper.view.in_sync


@virtual
async def test_an_engine_that_stays_too_slow_for_its_checks_is_read_anew_less_and_less_often() -> None:
    source = FakeSource()
    source.create(BOT, announce=False, state=ContainerState.EXITED)
    async with keeping(source) as keeper:
        for _ in range(400):
            keeper.engine_answers(answers=False)
            await asyncio.sleep(1)
        # After 3, 9, 21, 45, 93 and then each 48 more.
        assert 12 == len(source.subscriptions)
        keeper.engine_answers(answers=True)
        for _ in range(3):
            keeper.engine_answers(answers=False)
        await asyncio.sleep(1)
        assert 13 == len(source.subscriptions)


@virtual
async def test_a_broken_event_stream_is_a_loss_at_once_whatever_the_checks_say() -> None:
    source = FakeSource()
    source.create(BOT, announce=False, state=RUNNING)
    async with keeping(source) as keeper:
        keeper.engine_answers(answers=True)
        source.subscribe_fault = "hang"
        source.lose_streams()
        await asyncio.sleep(0.01)
        assert not keeper.view.in_sync
