"""The audit counts every difference between view and engine that is a bug, mends it, and counts nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from container_manager.model import ContainerState
from container_manager.view.audit import Audit
from tests.support.fake_source import LOST, FakeSource, row_of
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.refreshing import known, soon

RUNNING = ContainerState.RUNNING
Spoil = Callable[[FakeSource, str], object]

# Changes on the engine without events.
DIFFERENCES: dict[str, tuple[Spoil, str]] = {
    "changed": (
        lambda source, key: source.change(key, announce=False, state=RUNNING, error="secret"),
        "differs in state, image_id, error",
    ),
    "removed": (lambda source, key: source.remove(key, announce=False), "it is gone"),
    "created": (lambda source, _: source.create(OTHER_BOT, announce=False), "it is missing"),
}


@virtual
async def test_a_true_view_is_found_to_be_true() -> None:
    async with Kept() as kept:
        assert 0 == await kept.audit.check()
        await known(kept)
        await known(kept, OTHER_BOT)
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)
        assert 2 == len(kept.source.inspections)


@pytest.mark.parametrize(("spoil", "what"), DIFFERENCES.values(), ids=DIFFERENCES)
@virtual
async def test_a_difference_is_counted_logged_without_values_and_repaired(
    spoil: Spoil, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Kept() as kept:
        key = await known(kept)
        spoil(kept.source, key)
        assert (1, 1) == (await kept.audit.check(), kept.view.drift)
        await soon()
        assert kept.source.containers == kept.shown()
        assert (0, 1) == (await kept.audit.check(), kept.view.drift)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage().endswith(what)


@virtual
async def test_every_difference_counts() -> None:
    async with Kept() as kept:
        for bot_id in (BOT, OTHER_BOT):
            kept.source.change(await known(kept, bot_id), announce=False, state=RUNNING)
        assert (2, 2) == (await kept.audit.check(), kept.view.drift)


@virtual
async def test_a_change_reported_a_moment_later_is_no_difference() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.change(key, announce=False, state=RUNNING)
        asyncio.get_running_loop().call_later(0.9, kept.refresher.touch, key)
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)


@virtual
async def test_each_new_difference_gets_its_own_moment_to_resolve() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.change(key, announce=False, state=RUNNING)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, kept.refresher.touch, key)
        loop.call_later(0.9, lambda: kept.source.change(key, announce=False, restart_count=7))
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)
        assert 1 == await kept.audit.check()


@virtual
async def test_what_the_view_does_not_vouch_for_is_no_difference() -> None:
    """A container that is shown by its row as it cannot be inspected, one in doubt, one about to be inspected."""
    async with Kept() as kept:
        partial, doubted, pending = [await known(kept, name=name) for name in "xyz"]
        assert kept.view.apply(row_of(kept.source.containers[partial]), kept.view.tick(), partial=True)
        kept.view.doubts.add(doubted)
        kept.source.held.add(pending)
        kept.refresher.touch(pending)
        await soon()
        kept.source.held.clear()
        for key in (partial, doubted, pending):
            kept.source.change(key, announce=False, state=RUNNING)
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)
        kept.source.began(pending)[0].answer()


@virtual
async def test_a_view_out_of_sync_is_not_audited() -> None:
    async with Kept() as kept:
        kept.source.change(await known(kept), announce=False, state=RUNNING)
        kept.view.lose()
        assert (0, 0) == (await kept.audit.check(), kept.view.drift)


@virtual
async def test_a_container_that_changed_during_its_audit_is_not_judged() -> None:
    async with Kept() as kept:
        key = await known(kept)
        kept.source.held.add(key)
        checking = asyncio.ensure_future(kept.audit.check())
        await asyncio.sleep(0.1)
        kept.source.held.clear()
        kept.source.change(key, announce=False, state=RUNNING)
        kept.refresher.touch(key)
        await soon()
        kept.source.began(key)[0].answer()
        assert (0, 0) == (await checking, kept.view.drift)
        assert 2 == len(kept.source.began(key)), "the audit has not looked again"


@virtual
async def test_a_failed_inspection_does_not_stop_the_audit_of_other_containers() -> None:
    async with Kept() as kept:
        kept.source.faults[await known(kept)] = LOST
        kept.source.change(await known(kept, OTHER_BOT), announce=False, state=RUNNING)
        assert 1 == await kept.audit.check()


@virtual
async def test_an_audit_of_thousands_is_paced() -> None:
    async with Kept() as kept:
        for number in range(100):
            await known(kept, name=str(number))
        begun = asyncio.get_running_loop().time()
        await kept.audit.check()
        assert asyncio.get_running_loop().time() - begun >= 100 * 0.02


@pytest.mark.parametrize(
    ("fault", "level"), [(LOST, logging.INFO), (KeyError("Id"), logging.ERROR)], ids=["the engine's", "a bug"]
)
@virtual
async def test_a_failed_audit_is_logged_and_the_next_one_runs(
    fault: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Kept() as kept:
        audit = Audit(kept.view, kept.source, kept.refresher, interval_seconds=60)
        kept.source.change(await known(kept), announce=False, state=RUNNING)
        kept.source.list_fault = fault
        running = asyncio.ensure_future(audit.run())
        await asyncio.sleep(150)
        assert ([level] * 2, 0) == ([record.levelno for record in caplog.records], kept.view.drift)
        kept.source.list_fault = None
        await asyncio.sleep(60)
        assert (1, False) == (kept.view.drift, running.done())
        running.cancel()
