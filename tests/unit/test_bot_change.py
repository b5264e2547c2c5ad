"""A change of a bot's container: the view's knowledge before it, and no second inspection to show it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from container_manager.backend import Created
from container_manager.errors import EngineTimeoutError, InvalidStateError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.view.bot_change import BotChange
from tests.support.fake_source import HANG
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, shown, soon

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


def begun(kept: Kept, **how: bool) -> BotChange:
    """A change of the bot that has started."""
    change = BotChange(kept.view, kept.refresher, None, BOT, **how)
    change.begin()
    return change


def ended(change: BotChange, outcome: Any) -> None:
    """End the change with this result, or with this error."""
    work = asyncio.get_running_loop().create_future()
    if isinstance(outcome, Exception):
        work.set_exception(outcome)
    else:
        work.set_result(outcome)
    change.end(work)


@virtual
async def test_it_knows_the_container_that_the_view_shows() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        assert (kept.source.containers[key], False) == (change.known, change.absent)


@virtual
async def test_a_change_that_was_refused_before_it_began_costs_no_inspection() -> None:
    async with Kept() as kept:
        await known(kept)
        before = len(kept.source.inspections)
        change = begun(kept)
        change.end(None)
        await change.settled()
        assert before == len(kept.source.inspections)


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


@pytest.mark.parametrize("event", ["none", "before the end", "after the end"])
@virtual
async def test_a_new_container_is_shown_at_once_without_a_further_inspection(event: str) -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        if event == "before the end":
            kept.refresher.appeared(key)
        ended(change, Created(key, kept.source.containers[key]))
        await change.settled()
        assert kept.source.containers == kept.shown()
        if event == "after the end":
            kept.refresher.appeared(key)
        await soon()
        assert ([], []) == (kept.source.inspections, kept.refresher.pending())


@virtual
async def test_a_new_container_is_known_to_the_next_change_at_once() -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        kept.refresher.appeared(key)
        ended(change, Created(key, kept.source.containers[key]))
        await change.settled()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert kept.source.containers[key] == begun(kept).known


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
async def test_a_new_container_that_is_gone_again_is_not_shown() -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        seen = kept.source.containers[key]
        kept.source.remove(key)
        kept.refresher.gone(key)
        await soon()
        ended(change, Created(key, seen))
        await change.settled()
        assert {} == kept.shown()


@virtual
async def test_a_new_container_that_was_not_inspected_is_inspected_once() -> None:
    async with Kept() as kept:
        change = begun(kept)
        key = kept.source.create(BOT)
        kept.refresher.appeared(key)
        ended(change, Created(key))
        await change.settled()
        assert kept.source.containers == kept.shown()
        await soon()
        assert 1 == len(kept.source.inspections)


@virtual
async def test_a_bot_in_doubt_is_inspected_after_a_create_and_then_answered_for() -> None:
    async with Kept() as kept:
        kept.source.faults[BOT] = EngineTimeoutError("late")
        kept.refresher.touch(BOT)
        await kept.refresher.settled((BOT,))
        change = begun(kept)
        assert not change.absent
        kept.source.faults.clear()
        key = kept.source.create(BOT)
        ended(change, Created(key, kept.source.containers[key]))
        await change.settled()
        assert kept.view.answers_for(BOT)
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_bot_that_came_into_doubt_during_a_create_is_answered_for_afterwards() -> None:
    async with Kept() as kept:
        change = begun(kept)
        kept.source.faults[BOT] = EngineTimeoutError("late")
        kept.refresher.touch(BOT)
        await kept.refresher.settled((BOT,))
        kept.source.faults.clear()
        key = kept.source.create(BOT)
        ended(change, Created(key, kept.source.containers[key]))
        await change.settled()
        assert kept.view.answers_for(BOT)
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
async def test_a_container_that_was_acted_on_is_inspected_once_by_its_id() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key, hurry=False)
        ended(change, key)
        await change.settled()
        assert kept.source.containers == kept.shown()
        await soon()
        assert [key] == [each.key for each in kept.source.inspections]


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


@virtual
async def test_a_container_renamed_after_the_change_is_no_longer_the_bots() -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        kept.source.change(key, name="other")
        other = kept.source.create(BOT)
        ended(change, key)
        await change.settled()
        entry = kept.view.of_bot(BOT)
        assert other == (entry and entry.status.container_id)


@pytest.mark.parametrize("event", ["none", "before the end", "after the end"])
@virtual
async def test_a_removed_container_is_not_shown_and_an_event_makes_an_inspection_needless(event: str) -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept, removes=True)
        kept.source.remove(key)
        if event == "before the end":
            kept.refresher.gone(key)
        ended(change, key)
        await change.settled()
        assert {} == kept.shown()
        assert [] == kept.source.inspections
        if event == "after the end":
            kept.refresher.gone(key)
        await asyncio.sleep(5)
        assert (1 if event == "none" else 0) == len(kept.source.inspections)
        assert [] == kept.refresher.pending()


@virtual
async def test_a_container_that_the_engine_still_has_is_shown_again() -> None:
    """An engine under load may deny a container that it has."""
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept, removes=True)
        kept.source.denied.add(key)
        ended(change, key)
        await change.settled()
        assert {} == kept.shown()
        await asyncio.sleep(5)
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_container_that_was_made_by_hand_and_removed_is_not_shown_with_the_former_one() -> None:
    async with Kept() as kept:
        former = await known(kept)
        change = begun(kept, removes=True)
        kept.source.remove(former)
        made_by_hand = kept.source.create(BOT)
        kept.source.remove(made_by_hand)
        ended(change, made_by_hand)
        await change.settled()
        assert {} == kept.shown()


@pytest.mark.parametrize("outcome", ["", InvalidStateError("paused")])
@virtual
async def test_after_a_failure_or_without_a_container_the_bot_is_inspected(outcome: Any) -> None:
    async with Kept() as kept:
        key = await known(kept)
        change = begun(kept)
        kept.source.change(key, state=EXITED)
        ended(change, outcome)
        await change.settled()
        assert EXITED is shown(kept, key).state  # type: ignore[union-attr]


@virtual
async def test_a_change_that_no_worker_started_leaves_nothing_behind() -> None:
    async with Kept() as kept:
        change = begun(kept)
        change.end(None)
        await change.settled()
        kept.refresher.gone("f" * 64)
        assert (0, []) == (len(kept.refresher._removals), kept.refresher.pending())


@pytest.mark.parametrize("container", ["the one that the view shows", "one that was remade by hand", "a new one"])
@virtual
async def test_a_caller_that_gives_up_leaves_the_bot_in_doubt_until_it_is_shown(container: str) -> None:
    async with Kept() as kept:
        key = kept.source.create(BOT) if container == "a new one" else await known(kept)
        change = begun(kept)
        if container == "one that was remade by hand":
            kept.source.remove(key)
            key = kept.source.create(BOT)
        kept.source.held |= {key, BOT}
        kept.source.change(key, state=RUNNING)
        ended(change, key)
        settling = asyncio.ensure_future(change.settled())
        await asyncio.sleep(0.01)
        settling.cancel()
        await asyncio.wait({settling})
        assert not kept.view.answers_for(BOT)
        kept.source.held.clear()
        while not kept.view.answers_for(BOT):
            for inspection in kept.source.inspections:
                inspection.answer()
            await soon()
        assert RUNNING is shown(kept, key).state  # type: ignore[union-attr]
        assert key == kept.view.of_bot(BOT).status.container_id  # type: ignore[union-attr]


@virtual
async def test_later_work_caused_by_a_change_runs_outside_its_calls_context() -> None:
    """Neither its confirmation a second later, nor what that may lead to: their spans and lines would be the call's."""
    variable: ContextVar[str] = ContextVar("call", default="none")
    seen = []
    async with Kept() as kept:
        key = await known(kept)
        inspect = kept.source.inspect

        async def noting(container_id: str) -> ContainerStatus | None:
            seen.append(variable.get())
            return await inspect(container_id)

        kept.source.inspect = noting  # type: ignore[method-assign]
        change = begun(kept, removes=True)
        kept.source.remove(key)
        context = copy_context()
        context.run(variable.set, "the call")
        context.run(ended, change, key)
        await asyncio.sleep(5)
    assert seen
    assert {"none"} == set(seen)
