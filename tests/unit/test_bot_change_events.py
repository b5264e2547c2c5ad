"""Events of a container during a change of its bot wait for the end of the change, and not for long."""

from __future__ import annotations

import asyncio

from container_manager.backend import Created
from container_manager.model import ContainerState
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.changing import begun, ended
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, soon

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


@virtual
async def test_a_new_container_with_a_further_event_is_inspected() -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        seen = kept.source.containers[key]
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key, hurry=False)
        ended(change, Created(key, seen))
        await soon()
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_creates_newer_inspection_wins_over_the_one_of_its_event() -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        kept.refresher.appeared(key)
        await soon()
        kept.source.change(key, state=RUNNING)
        ended(change, Created(key, kept.source.containers[key]))
        await change.settled()
        assert kept.source.containers == kept.shown()


@virtual
async def test_events_of_a_container_wait_for_the_end_of_a_change_of_it() -> None:
    async with Kept() as kept:
        key, other = await known(kept), await known(kept, OTHER_BOT)
        change = begun(kept)
        for each in (key, other):
            kept.source.change(each, state=RUNNING)
            kept.refresher.touch(each, hurry=False)
        await soon()
        assert [other] == [each.key for each in kept.source.inspections]
        ended(change, key)
        await change.settled()
        await soon()
        assert [other, key] == [each.key for each in kept.source.inspections]
        assert kept.source.containers == kept.shown()
        kept.source.change(key, state=EXITED)
        kept.refresher.touch(key, hurry=False)
        await soon()
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_new_container_is_not_inspected_while_a_create_may_be_about_to_tell_of_it() -> None:
    """One that somebody else has made is shown half a second later."""
    async with Kept() as kept:
        running = await known(kept, OTHER_BOT)
        change = begun(kept)
        key, other = kept.source.create(BOT), kept.source.create(OTHER_BOT, "other")
        for each in (key, other):
            kept.refresher.appeared(each)
        kept.refresher.touch(running, hurry=False)
        await soon()
        assert [running] == [each.key for each in kept.source.inspections]
        ended(change, Created(key, kept.source.containers[key]))
        await asyncio.sleep(0.55)
        assert [running, other] == [each.key for each in kept.source.inspections]
        assert kept.source.containers == kept.shown()
        another = kept.source.create(OTHER_BOT, "another")
        kept.refresher.appeared(another)
        await soon()
        assert another in kept.shown()


@virtual
async def test_events_do_not_wait_longer_than_half_a_second_for_the_end_of_a_change() -> None:
    """A stop may take a day, and others may start the container again meanwhile."""
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        for state in (RUNNING, EXITED):
            kept.source.change(key, state=state)
            kept.refresher.touch(key, hurry=False)
            await asyncio.sleep(0.55)
            assert kept.source.containers == kept.shown()
        ended(change, key)


@virtual
async def test_events_are_looked_into_at_once_after_a_change_that_looks_at_nothing() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key, hurry=False)
        await soon()
        assert [] == kept.source.inspections
        change.end(None)
        await soon()
        assert kept.source.containers == kept.shown()


@virtual
async def test_an_event_after_the_end_of_a_change_does_not_hold_up_its_caller() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        kept.source.change(key, state=RUNNING)
        kept.source.held.add(key)
        ended(change, key)
        await soon()
        kept.refresher.touch(key, hurry=False)
        settling = asyncio.ensure_future(change.settled())
        (first,) = kept.source.inspections
        first.answer()
        await soon()
        assert settling.done()
        assert kept.source.containers == kept.shown()
        assert 2 == len(kept.source.inspections)
        kept.source.inspections[1].answer()
