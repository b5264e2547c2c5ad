"""What a change knows of the bot's container before it."""

from __future__ import annotations

import asyncio

import pytest

from container_manager.model import ContainerState
from tests.support.fake_source import HANG
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.changing import begun, ended
from tests.unit.documents import BOT
from tests.unit.refreshing import known, soon

RUNNING = ContainerState.RUNNING


@virtual
async def test_it_knows_the_container_that_the_view_shows() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        assert (kept.source.containers[key], False) == (change.known, change.absent)


@virtual
async def test_it_knows_that_a_bot_has_no_container() -> None:
    async with Kept() as kept:
        change = begun(kept)
        assert (None, True) == (change.known, change.absent)


@virtual
async def test_it_knows_nothing_while_the_view_is_not_in_sync() -> None:
    async with Kept() as kept:
        await known(kept)
        kept.view.lose()
        change = begun(kept)
        assert (None, False) == (change.known, change.absent)
        ended(change, "")


@virtual
async def test_it_knows_nothing_while_an_event_of_the_container_is_pending() -> None:
    """The event may be of a rename."""
    async with Kept() as kept:
        key = await known(kept)
        kept.refresher.touch(key, hurry=False)
        change = begun(kept)
        assert change.known is None
        change.end(None)
        await soon()
        assert begun(kept).known is not None


@virtual
async def test_it_knows_a_container_in_any_state_unless_that_may_have_been_renamed() -> None:
    async with Kept(follow=True) as kept:
        key = kept.source.create(BOT)
        await soon()
        seen = kept.source.containers[key]

        def is_known(*, tolerates_stale_state: bool = True) -> bool:
            change = begun(kept, tolerates_stale_state=tolerates_stale_state)
            change.end(None)
            return change.known == seen

        kept.source.held.add(key)
        kept.source.change(key, state=RUNNING)
        await soon()
        assert (True, False) == (is_known(), is_known(tolerates_stale_state=False))
        kept.source.change(key, name="other")
        await soon()
        # The inspection in progress began before the rename.
        assert not is_known()
        kept.source.inspections[-1].answer()
        await soon()
        assert (2, False) == (len(kept.source.began(key)) - 1, is_known())
        kept.source.inspections[-1].answer()
        await soon()
        assert not is_known()


@pytest.mark.parametrize("tolerates_stale_state", [True, False])
@virtual
async def test_it_knows_nothing_while_something_else_than_an_event_has_the_container_inspected(
    *, tolerates_stale_state: bool
) -> None:
    """The audit, or an inspection of the bot that found another container: it may have been renamed."""
    async with Kept() as kept:
        kept.source.held.add(await known(kept))
        kept.refresher.touch(next(iter(kept.source.held)))
        await soon()
        assert begun(kept, tolerates_stale_state=tolerates_stale_state).known is None
        kept.source.inspections[-1].answer()


@virtual
async def test_it_knows_nothing_of_a_container_that_cannot_be_inspected() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.faults[key] = HANG
        kept.refresher.touch(key)
        await kept.refresher.settled((key,))
        assert begun(kept).known is None


@virtual
async def test_knowledge_from_before_a_long_wait_for_a_worker_is_not_used() -> None:
    async with Kept() as kept:
        await known(kept)
        change = begun(kept)
        await asyncio.sleep(0.2)
        assert change.known is None
