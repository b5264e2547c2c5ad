"""Containers that cannot be inspected are doubted and inspected again, and delay no other."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from container_manager.backends.docker.container_source import INSPECT_TIMEOUT_SECONDS
from container_manager.model import ContainerState, HealthStatus
from tests.support.fake_source import HANG, LOST, Fault, row_of
from tests.support.kept_view import Kept
from tests.support.virtual_loop import now, virtual
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, shown, soon

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED
FAULTS = pytest.mark.parametrize("fault", [HANG, LOST, KeyError("Config")], ids=["hangs", "fails", "makes no sense"])


@FAULTS
@virtual
async def test_a_container_that_cannot_be_inspected_holds_up_no_other_and_shows_its_row(fault: Fault) -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.faults[key] = fault
        kept.source.change(key, state=EXITED, exit_code=3)
        for each in (key, BOT, await known(kept, OTHER_BOT)):
            kept.refresher.touch(each)
        begun = now()
        await kept.refresher.settled_bot(OTHER_BOT)
        assert (begun, True) == (now(), kept.view.answers_for(OTHER_BOT))
        await kept.refresher.settled_bot(BOT)
        await soon()
        assert row_of(kept.source.containers[key]) == shown(kept, key)
        assert (False, True) == (kept.view.answers_for(BOT), kept.view.answers_for(OTHER_BOT))


@virtual
async def test_a_bot_is_doubted_while_the_container_of_its_name_hangs_though_one_of_another_name_is_unchanged() -> None:
    async with Kept() as kept:
        other = await known(kept, name="botmaker-anna", state=RUNNING)
        assert kept.view.answers_for(BOT)
        own = kept.source.create(BOT, announce=False)
        kept.source.faults[own] = HANG
        kept.refresher.touch(BOT)
        await asyncio.sleep(INSPECT_TIMEOUT_SECONDS + 0.1)
        entry = kept.view.of_bot(BOT)
        assert entry is not None
        assert (other, False) == (entry.status.container_id, kept.view.answers_for(BOT))


@FAULTS
@virtual
async def test_a_failing_inspection_is_tried_again_with_growing_delays_until_it_recovers(fault: Fault) -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.faults[key] = fault
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key)
        began: list[float] = []
        while len(began) < 9:
            if len(kept.source.began(key)) > len(began):
                began.append(now())
            await asyncio.sleep(0.01)
        took = 2 if fault == HANG else 0
        delays = [later - earlier - took for earlier, later in pairwise(began)]
        assert [1, 2, 4, 8, 16, 30, 30, 30] == [round(delay) for delay in delays]
        kept.source.faults.clear()
        await asyncio.sleep(40)
        assert (kept.source.containers, True) == (kept.shown(), kept.view.answers_for_all)
        count = len(kept.source.inspections)
        await asyncio.sleep(100)
        assert count == len(kept.source.inspections)


@virtual
async def test_a_container_whose_inspection_hangs_is_answered_for_while_the_list_shows_it_unchanged() -> None:
    """A busy engine holds a container for seconds while it clears up after its process."""
    async with Kept() as kept:
        key = await known(kept, state=RUNNING)
        kept.source.faults[key] = HANG
        kept.refresher.touch(key)
        await asyncio.sleep(5 * INSPECT_TIMEOUT_SECONDS + 1)
        assert kept.view.answers_for(BOT)
        await asyncio.sleep(INSPECT_TIMEOUT_SECONDS)
        assert not kept.view.answers_for(BOT)


@virtual
async def test_whoever_waits_for_an_inspection_that_hangs_waits_for_the_next_one() -> None:
    async with Kept() as kept:
        key = await known(kept, state=RUNNING)
        kept.source.faults[key] = HANG
        kept.refresher.touch(key)
        settled = asyncio.ensure_future(kept.refresher.settled((key,)))
        await asyncio.sleep(INSPECT_TIMEOUT_SECONDS + 1)
        kept.source.change(key, state=EXITED)
        kept.source.faults.clear()
        assert not settled.done()
        await settled
        assert shown(kept, key).state is EXITED


@pytest.mark.parametrize("list_fails", [False, True])
@virtual
async def test_a_container_whose_inspection_hangs_is_doubted_when_the_list_does_not_show_it_unchanged(
    *, list_fails: bool
) -> None:
    async with Kept() as kept:
        key = await known(kept, state=RUNNING)
        kept.source.faults[key] = HANG
        if list_fails:
            kept.source.list_fault = LOST
        else:
            kept.source.change(key, state=EXITED)
        kept.refresher.touch(key)
        await asyncio.sleep(INSPECT_TIMEOUT_SECONDS + 0.1)
        assert not kept.view.answers_for(BOT)


@virtual
async def test_a_container_that_neither_inspects_nor_lists_keeps_what_was_known_and_is_not_answered_for() -> None:
    async with Kept() as kept:
        key = await known(kept)
        before = kept.shown()
        kept.source.faults[key] = kept.source.list_fault = LOST
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key)
        await soon()
        assert (before, False, False) == (kept.shown(), kept.view.answers_for(BOT), kept.view.answers_for_all)


@virtual
async def test_an_inspection_that_began_before_a_doubt_does_not_end_it() -> None:
    """A slow inspection of the bot saw the state before the change that could not be inspected."""
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(BOT)
        kept.refresher.touch(BOT)
        await soon()
        kept.source.faults[key] = kept.source.list_fault = LOST
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key)
        await soon()
        kept.source.began(BOT)[0].answer()
        await soon()
        assert not kept.view.answers_for(BOT)
        kept.source.faults.clear()
        await asyncio.sleep(40)
        assert (kept.source.containers, True) == (kept.shown(), kept.view.answers_for(BOT))


@virtual
async def test_a_container_removed_while_it_cannot_be_inspected_leaves_no_doubt() -> None:
    async with Kept() as kept:
        key, other = await known(kept), await known(kept, OTHER_BOT)
        kept.source.faults.update({key: HANG, other: HANG})
        kept.refresher.touch(key)
        await asyncio.sleep(0.5)
        kept.source.remove(key)
        kept.refresher.gone(key)
        # Another container is always under inspection meanwhile.
        for _ in range(4):
            kept.refresher.touch(other)
            await asyncio.sleep(1)
        kept.source.faults.clear()
        await asyncio.sleep(100)
        assert (set(), True) == (kept.view.doubts, kept.view.answers_for_all)


@virtual
async def test_what_cannot_be_taken_over_is_doubted_and_holds_up_nobody() -> None:
    """The view's encoding fails, which is a bug: the view must not claim the old state."""
    async with Kept() as kept:
        key = await known(kept)
        kept.view._encode = lambda _: bytes(-1)
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key, hurry=False)
        await asyncio.wait_for(kept.refresher.settled((key,)), 10)
        assert not kept.view.answers_for(BOT)


@FAULTS
@virtual
async def test_a_container_that_cannot_be_inspected_and_has_not_changed_is_told_to_nobody_as_changed(
    fault: Fault,
) -> None:
    """Its row in the list has less than the view knows."""
    async with Kept() as kept:
        key = await known(kept, start_time_ns=5, health=HealthStatus.HEALTHY)
        told = list(kept.witness.told)
        kept.source.faults[key] = fault
        kept.refresher.touch(key)
        await asyncio.sleep(3)
        assert (False, True) == (kept.view.answers_for(BOT), kept.view.answers_for_all)
        kept.source.faults.clear()
        await asyncio.sleep(3)
        assert (True, told) == (kept.view.answers_for(BOT), kept.witness.told)
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_bot_whose_inspection_is_not_awaited_to_its_end_is_not_answered_for_until_then() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.update((key, BOT))
        kept.source.change(key, state=EXITED)
        kept.refresher.touch(BOT)
        await soon()
        kept.refresher.touch(BOT)
        kept.refresher.doubt_unsettled(BOT)
        assert (False, False) == (kept.view.answers_for(BOT), kept.view.answers_for_all)
        kept.source.began(BOT)[0].answer()
        await soon()
        assert not kept.view.answers_for(BOT), "this inspection began before the last touch"
        kept.source.began(BOT)[1].answer()
        await soon()
        assert (True, EXITED) == (kept.view.answers_for_all, shown(kept, key).state)


@virtual
async def test_a_bot_that_is_settled_is_not_doubted() -> None:
    async with Kept() as kept:
        await known(kept)
        kept.refresher.doubt_unsettled(BOT)
        assert kept.view.answers_for_all


@virtual
async def test_a_bot_in_doubt_is_answered_for_though_its_container_was_removed_during_the_next_inspection() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.faults[BOT] = LOST
        kept.refresher.touch(BOT)
        await soon()
        assert not kept.view.answers_for(BOT)
        kept.source.faults.clear()
        kept.source.held.add(BOT)
        await asyncio.sleep(2)
        kept.source.remove(key)
        kept.refresher.gone(key)
        kept.source.held.clear()
        kept.source.began(BOT)[-1].answer()
        await soon()
        assert (True, {}) == (kept.view.answers_for_all, kept.shown())


@virtual
async def test_a_container_that_its_bots_inspection_has_settled_is_doubted_no_more() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(BOT)
        kept.refresher.touch(BOT)
        await soon()
        kept.refresher.touch(key, hurry=False)
        kept.refresher.doubt_unsettled(BOT)
        kept.source.began(BOT)[0].answer()
        await soon()
        assert kept.view.answers_for_all
