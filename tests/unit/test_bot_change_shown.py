"""What a change has made of the bot's container is shown, without a second inspection."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from container_manager.backend import Created
from container_manager.errors import EngineTimeoutError, InvalidStateError
from container_manager.model import ContainerState, ContainerStatus
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.changing import begun, ended
from tests.unit.documents import BOT
from tests.unit.refreshing import known, shown, soon

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


@virtual
async def test_a_change_that_was_refused_before_it_began_costs_no_inspection() -> None:
    async with Kept() as kept:
        await known(kept)
        before = len(kept.source.inspections)
        change = begun(kept)
        change.end(None)
        await change.settled()
        assert before == len(kept.source.inspections)


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
