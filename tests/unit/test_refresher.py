"""The refresher updates single containers: one inspection at a time, the last one after the last touch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random

import pytest

from container_manager.errors import EngineTimeoutError
from container_manager.model import ContainerState
from container_manager.view.inspection import BURST_SECONDS
from tests.support.fake_source import FakeSource, serial_of
from tests.support.kept_view import Kept
from tests.support.virtual_loop import now, virtual
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, shown, soon

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED
PASSING = (ContainerState.RESTARTING, ContainerState.REMOVING)


@virtual
async def test_a_touched_container_is_shown_as_it_is() -> None:
    async with Kept() as kept:
        key = await known(kept)
        assert kept.source.containers == kept.shown()
        kept.source.remove(key)
        kept.refresher.touch(key)
        await kept.refresher.settled((key,))
        assert {} == kept.shown()


@virtual
async def test_a_burst_of_touches_leads_to_one_inspection() -> None:
    async with Kept() as kept:
        key = kept.source.create(BOT)
        for _ in range(5):
            kept.refresher.touch(key, hurry=False)
            await asyncio.sleep(BURST_SECONDS / 10)
        await soon()
        assert (1, []) == (len(kept.source.began(key)), kept.refresher.pending())


@virtual
async def test_a_hurried_touch_does_not_wait_for_the_burst() -> None:
    async with Kept() as kept:
        key = kept.source.create(BOT)
        kept.refresher.touch(key, hurry=False)
        kept.refresher.touch(key)
        await asyncio.sleep(0)
        await asyncio.sleep(BURST_SECONDS / 10)
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_touch_during_an_inspection_leads_to_one_more_that_begins_after_it() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(key)
        kept.refresher.touch(key)
        await soon()
        kept.source.change(key, state=RUNNING)
        for _ in range(3):
            kept.refresher.touch(key)
        await soon()
        (first,) = kept.source.began(key)
        kept.source.held.clear()
        first.answer()
        await soon()
        assert 2 == len(kept.source.began(key))
        assert kept.source.containers == kept.shown()


@virtual
async def test_inspections_of_one_container_never_overlap_and_those_of_others_do() -> None:
    async with Kept() as kept:
        keys = [await known(kept), await known(kept, OTHER_BOT)]
        kept.source.held.update(keys)
        for _ in range(3):
            for key in keys:
                kept.refresher.touch(key)
            await soon()
        assert keys == [inspection.key for inspection in kept.source.inspections]
        for inspection in kept.source.inspections:
            inspection.answer()
        kept.source.held.clear()


@virtual
async def test_settled_waits_for_an_inspection_that_began_after_the_last_touch() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(key)
        kept.refresher.touch(key)
        await soon()
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key)
        settling = asyncio.ensure_future(kept.refresher.settled((key,)))
        kept.source.began(key)[0].answer()
        await soon()
        assert (2, False) == (len(kept.source.began(key)), settling.done())
        kept.source.began(key)[1].answer()
        await settling
        assert kept.source.containers == kept.shown()


@virtual
async def test_settled_does_not_wait_where_nothing_was_touched() -> None:
    async with Kept() as kept:
        key = await known(kept)
        begun = now()
        await kept.refresher.settled((key, BOT))
        assert (begun, []) == (now(), kept.source.inspections)


@pytest.mark.parametrize("touched_bot", [False, True], ids=["its own", "its bot's"])
@virtual
async def test_settled_does_not_starve_while_touches_keep_coming(touched_bot: bool) -> None:
    """Events of the container and operations on its bot occur faster than an inspection ends."""
    draw = Random(5)
    async with Kept(FakeSource(duration=lambda: draw.uniform(0.005, 0.02))) as kept:
        key = await known(kept)

        async def keep_touching() -> None:
            while True:
                kept.source.change(key, state=RUNNING)
                kept.refresher.touch(BOT if touched_bot else key, hurry=touched_bot)
                await asyncio.sleep(0.003)

        touching = asyncio.ensure_future(keep_touching())
        for _ in range(20):
            await asyncio.sleep(0.1)
            begun, serial = now(), kept.source.serial
            kept.refresher.touch(BOT)
            await kept.refresher.settled_bot(BOT)
            assert now() - begun < 1
            status = shown(kept, key)
            assert status is not None
            assert serial_of(status) >= serial
        touching.cancel()


@pytest.mark.parametrize("told", [True, False], ids=["by an event", "by an inspection"])
@virtual
async def test_a_removed_container_never_comes_back_by_an_inspection_that_is_answered_late(told: bool) -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(BOT)
        kept.refresher.touch(BOT)
        await soon()
        kept.source.remove(key)
        kept.refresher.gone(key) if told else kept.refresher.touch(key)
        await soon()
        assert {} == kept.shown()
        kept.source.held.clear()
        kept.source.began(BOT)[0].answer()
        await soon()
        assert ({}, []) == (kept.shown(), kept.refresher.pending())


@pytest.mark.parametrize("state", PASSING)
@virtual
async def test_a_passing_state_is_looked_at_until_it_has_passed_without_a_word(state: ContainerState) -> None:
    async with Kept() as kept:
        key = await known(kept, state=state)
        await asyncio.sleep(60)
        looks = len(kept.source.began(key))
        assert 12 <= looks <= 20, "at 0.1 s first and every 5 s at last"
        kept.source.change(key, state=EXITED, announce=False)
        await asyncio.sleep(5.1)
        assert kept.source.containers == kept.shown()
        await asyncio.sleep(60)
        assert looks + 1 == len(kept.source.began(key))


@pytest.mark.parametrize("state", PASSING)
@virtual
async def test_a_passing_state_is_not_looked_at_again_while_its_machine_cannot_be_reached(
    state: ContainerState,
) -> None:
    async with Kept() as kept:
        key = await known(kept, state=state, node_unreachable=True)
        looks = len(kept.source.began(key))
        await asyncio.sleep(60)
        assert looks == len(kept.source.began(key))


@virtual
async def test_settled_bot_after_a_removal_shows_none() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.remove(key)
        kept.refresher.touch(BOT)
        await kept.refresher.settled_bot(BOT)
        assert (None, {}) == (kept.view.of_bot(BOT), kept.shown())


@virtual
async def test_settled_bot_after_a_rename_by_somebody_else_shows_the_container_under_its_new_name() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.change(key, name="other")
        kept.refresher.touch(BOT)
        await kept.refresher.settled_bot(BOT)
        entry = kept.view.of_bot(BOT)
        assert entry is not None
        assert (None, key, kept.source.containers) == (entry.bot, entry.status.container_id, kept.shown())


@virtual
async def test_settled_bot_after_the_container_was_made_anew_shows_the_new_one() -> None:
    async with Kept() as kept:
        kept.source.remove(await known(kept))
        key = kept.source.create(BOT)
        kept.refresher.touch(BOT)
        await kept.refresher.settled_bot(BOT)
        entry = kept.view.of_bot(BOT)
        assert key == (entry and entry.status.container_id)
        await soon()
        assert kept.source.containers == kept.shown()


def tasks() -> Iterable[object]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@virtual
async def test_close_leaves_no_task_and_no_timer() -> None:
    async with Kept() as kept:
        keys = [await known(kept), await known(kept, OTHER_BOT), await known(kept, name="x", state=PASSING[0])]
        kept.source.held.add(keys[0])
        kept.source.faults[keys[1]] = EngineTimeoutError("slow")
        for key in keys:
            kept.refresher.touch(key)
        await soon()
        for key in keys:
            kept.refresher.touch(key)
        await kept.refresher.close()
        assert (set(), 3) == (tasks(), len(kept.source.began(keys[0])) + 2)
        kept.source.inspections.clear()
        await asyncio.sleep(100)
        assert [] == kept.source.inspections


@virtual
async def test_close_releases_waiters() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(key)
        kept.refresher.touch(key, hurry=False)
        settling = asyncio.ensure_future(kept.refresher.settled((key,)))
        await soon()
        await kept.refresher.close()
        await asyncio.wait_for(settling, 10)
