"""An engine that denies a container that it has: the view shows it again a moment later, and not too early."""

from __future__ import annotations

import asyncio

import pytest

from container_manager.model import ContainerState
from container_manager.view.removals import CONFIRM_SECONDS
from tests.support.fake_source import LOST, FakeSource
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, shown, soon

RUNNING = ContainerState.RUNNING
LATER = CONFIRM_SECONDS + 0.5


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def logged(key: str) -> list[str]:
    return [f"the engine said that container {key[:12]} is gone, and has it"]


async def denied(kept: Kept) -> str:
    """A container whose existence the engine has just denied."""
    key = await known(kept)
    kept.source.denials[key] = 1
    kept.refresher.touch(key)
    await kept.refresher.settled((key,))
    assert key not in kept.shown()
    kept.source.inspections.clear()
    return key


@virtual
async def test_a_container_that_is_denied_once_is_taken_back_and_the_engines_error_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Kept() as kept:
        key = await denied(kept)
        await asyncio.sleep(LATER)
        assert kept.source.containers == kept.shown()
        assert ["removed", "changed"] == [what.split()[0] for what in kept.witness.told][-2:]
        assert logged(key) == complaints(caplog)
        await asyncio.sleep(100)
        assert (1, 0) == (len(kept.source.inspections), len(kept.refresher._removals))


@virtual
async def test_a_container_that_is_denied_while_others_are_always_being_inspected_is_taken_back() -> None:
    """Otherwise it would stay gone as long as any container is under inspection."""
    async with Kept(FakeSource(duration=lambda: 0.05)) as kept:
        busy = [await known(kept, OTHER_BOT, name=name) for name in ("x", "y")]

        async def keep_touching() -> None:
            while True:
                for key in busy:
                    kept.refresher.touch(key)
                    await asyncio.sleep(0.04)

        touching = asyncio.ensure_future(keep_touching())
        await denied(kept)
        assert kept.refresher.pending()
        await asyncio.sleep(LATER)
        assert kept.source.containers == kept.shown()
        touching.cancel()


@virtual
async def test_an_event_of_a_container_thought_removed_brings_it_back_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Kept() as kept:
        kept.source.held.add(await known(kept, OTHER_BOT))
        kept.refresher.touch(*kept.source.held)
        key = await denied(kept)
        assert kept.refresher.knows(key), "events that do not say whose they are count, too"
        kept.source.change(key, state=RUNNING)
        kept.refresher.touch(key, hurry=False)
        await soon()
        assert (RUNNING, logged(key)) == (shown(kept, key).state, complaints(caplog))
        await asyncio.sleep(100)
        assert 1 == len(kept.source.began(key)), "no need to look once more"


@virtual
async def test_a_removed_container_is_looked_at_once_more_and_never_again(caplog: pytest.LogCaptureFixture) -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.remove(key)
        kept.refresher.touch(key)
        await asyncio.sleep(CONFIRM_SECONDS - 0.1)
        assert 1 == len(kept.source.began(key))
        await asyncio.sleep(100)
        assert (2, {}, []) == (len(kept.source.began(key)), kept.shown(), complaints(caplog))
        assert 0 == len(kept.refresher._removals)


@pytest.mark.parametrize("denied_first", [True, False])
@virtual
async def test_a_container_whose_removal_an_event_tells_of_is_not_looked_at_once_more(denied_first: bool) -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.remove(key)
        if denied_first:
            kept.refresher.touch(key)
            await soon()
        kept.refresher.gone(key)
        looks = len(kept.source.inspections)
        await asyncio.sleep(100)
        assert (looks, 0) == (len(kept.source.inspections), len(kept.refresher._removals))


@virtual
async def test_an_inspection_that_began_before_a_denial_is_repeated_for_those_who_wait_for_it() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(BOT)
        kept.refresher.touch(BOT)
        await soon()
        settling = asyncio.ensure_future(kept.refresher.settled_bot(BOT))
        kept.source.denials[key] = 1
        kept.refresher.touch(key)
        await soon()
        kept.source.held.clear()
        kept.source.began(BOT)[0].answer()
        await settling
        assert (2, kept.source.containers) == (len(kept.source.began(BOT)), kept.shown())


@virtual
async def test_a_denied_container_that_cannot_be_looked_at_once_more_is_doubted_until_it_can() -> None:
    async with Kept() as kept:
        key = await denied(kept)
        kept.source.faults[key] = kept.source.list_fault = LOST
        await asyncio.sleep(LATER)
        assert (False, False) == (kept.view.answers_for(BOT), kept.view.answers_for_all)
        kept.source.faults.clear()
        await asyncio.sleep(5)
        assert (kept.source.containers, True) == (kept.shown(), kept.view.answers_for_all)


@virtual
async def test_the_audit_counts_no_drift_of_what_is_about_to_be_looked_at_once_more() -> None:
    async with Kept() as kept:
        await denied(kept)
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)
        await asyncio.sleep(LATER)
        assert kept.source.containers == kept.shown()


@virtual
async def test_an_audit_during_a_denial_counts_no_drift() -> None:
    async with Kept() as kept:
        kept.source.denials[await known(kept)] = 1
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)


@virtual
async def test_those_that_are_gone_are_forgotten_though_there_is_always_an_inspection_under_way() -> None:
    async with Kept() as kept:
        busy = await known(kept, OTHER_BOT)
        kept.source.held.add(busy)
        removals = kept.refresher._removals
        kept.refresher.touch(busy)
        for _ in range(50):
            await soon()
            (under_way,) = kept.source.began(busy)
            for told in (True, False):
                key = await known(kept)
                kept.source.remove(key)
                kept.refresher.gone(key) if told else kept.refresher.touch(key)
            await soon()
            assert len(removals) >= 2, "the one under way may have seen them"
            kept.refresher.touch(busy)
            under_way.answer()
        assert len(removals) < 50
        await soon()
        (last,) = kept.source.began(busy)
        last.answer()
        kept.source.held.clear()
        await asyncio.sleep(LATER)
        assert (0, [busy]) == (len(removals), list(kept.shown()))


@virtual
async def test_close_stops_pending_confirmations() -> None:
    async with Kept() as kept:
        await denied(kept)
        await kept.refresher.close()
        await asyncio.sleep(100)
        assert ([], 0) == (kept.source.inspections, len(kept.refresher._removals))
