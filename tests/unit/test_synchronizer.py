"""The view follows the engine: it misses nothing, never goes back, and trusts nothing that may be outdated."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerState, HealthStatus, PortBinding
from tests.support.fake_source import HANG, LOST, FakeSource, Fault
from tests.support.kept_view import Kept
from tests.support.virtual_loop import now, virtual
from tests.unit.documents import BOT, OTHER_BOT

CREATED, RUNNING, EXITED, PAUSED = map(ContainerState, ("created", "running", "exited", "paused"))
PASSING = (ContainerState.RESTARTING, ContainerState.REMOVING)
BUG = KeyError("Id")


async def in_sync(kept: Kept) -> None:
    await asyncio.wait_for(kept.view.regained(), 60)


@virtual
async def test_what_there_is_at_first_and_what_happens_then_is_shown() -> None:
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source, follow=True) as kept:
        assert not kept.view.answers_for_all
        await in_sync(kept)
        assert (source.containers, True) == (kept.shown(), kept.view.answers_for_all)
        source.create(OTHER_BOT)
        source.change(key, state=RUNNING)
        await asyncio.sleep(0.1)
        assert source.containers == kept.shown()
        source.remove(key)
        await asyncio.sleep(0.1)
        assert source.containers == kept.shown()
        assert kept.synchronizer.problem is None


@virtual
async def test_events_of_containers_that_are_not_ours_lead_to_no_inspection() -> None:
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        kept.source.tell("f" * 64, managed=False)
        await asyncio.sleep(1)
        assert [] == kept.source.inspections


@virtual
async def test_a_change_that_only_its_network_tells_of_is_seen() -> None:
    """A start that failed: its event does not name the bot of the container."""
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        key = kept.source.create(BOT)
        await asyncio.sleep(0.1)
        kept.source.change(key, error="no such file", managed=False)
        await asyncio.sleep(0.1)
        assert kept.source.containers == kept.shown()


@virtual
async def test_a_change_that_only_its_network_tells_of_is_seen_also_during_the_first_inspection() -> None:
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        kept.source.held.add(key := kept.source.create(BOT))
        await asyncio.sleep(0.1)
        kept.source.change(key, error="no such file", managed=False)
        await asyncio.sleep(0.1)
        kept.source.held.clear()
        kept.source.began(key)[0].answer()
        await asyncio.sleep(0.1)
        assert kept.source.containers == kept.shown()


@pytest.mark.parametrize("how", [LOST, BUG, None], ids=["lost", "garbled", "ended"])
@virtual
async def test_all_that_happened_while_it_was_away_is_right_before_trust_returns(how: Exception | None) -> None:
    source = FakeSource(duration=lambda: 0.05)
    kept_key, changed, removed = (source.create(BOT, name, announce=False) for name in ("x", "y", "z"))
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        source.lose_streams(how)
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert (False, False) == (kept.view.answers_for(BOT), kept.view.answers_for_all)
        source.change(changed, announce=False, state=RUNNING)
        source.remove(removed, announce=False)
        source.create(BOT, announce=False)
        while not kept.view.in_sync:
            assert not kept.view.answers_for(BOT)
            await asyncio.sleep(0.001)
        assert source.containers == kept.shown()
        assert 2 == len(source.began(kept_key)), "everything is compared, also what has not changed"
        assert ["lost", "regained"] == [what for what in kept.witness.told[4:] if "ed " not in what]
        assert kept.synchronizer.problem is None


@virtual
async def test_an_engine_that_does_not_answer_is_believed_no_more_though_its_events_have_not_ended() -> None:
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        key = kept.source.create(BOT, announce=False)
        kept.synchronizer.drop()
        await asyncio.sleep(0.01)
        assert (False, True) == (kept.view.answers_for_all, kept.synchronizer.problem is not None)
        await in_sync(kept)
        assert [key] == list(kept.shown())


@pytest.mark.parametrize("fault", [LOST, HANG, BUG], ids=["fails", "hangs", "makes no sense"])
@pytest.mark.parametrize("where", ["subscribe_fault", "list_fault"])
@virtual
async def test_what_fails_is_tried_again_ever_later_and_what_is_wrong_is_said(where: str, fault: Fault) -> None:
    source = FakeSource()
    source.create(BOT, announce=False)
    setattr(source, where, fault)
    async with Kept(source, follow=True) as kept:
        took = 2 if fault == HANG else 0
        await asyncio.sleep(5 + took * 7)
        assert (False, []) == (kept.view.in_sync, kept.witness.told)
        assert isinstance(kept.synchronizer.problem, ContainerManagerError)
        delays = [round(later - earlier - took, 3) for earlier, later in pairwise(source.subscriptions)]
        assert [0.1, 0.2, 0.4, 0.8, 1.0, 1.0] == delays[:6]
        setattr(source, where, None)
        await in_sync(kept)
        assert (source.containers, None) == (kept.shown(), kept.synchronizer.problem)
        begun = now()
        source.lose_streams()
        await asyncio.sleep(0.01)
        await in_sync(kept)
        assert now() - begun < 0.2, "the delay has begun anew"


@virtual
async def test_a_container_that_cannot_be_inspected_does_not_keep_the_others_from_being_trusted() -> None:
    source = FakeSource()
    key = source.create(BOT, announce=False)
    source.create(OTHER_BOT, announce=False)
    source.faults[key] = HANG
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        assert (False, True) == (kept.view.answers_for(BOT), kept.view.answers_for(OTHER_BOT))
        assert source.containers.keys() == kept.shown().keys()


@virtual
async def test_nothing_is_trusted_once_nobody_follows_any_more() -> None:
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        kept.following.cancel()
        await asyncio.wait({kept.following})
        assert 0 == len(asyncio.all_tasks()) - 1
        assert not kept.view.answers_for_all


# The log.


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(",")[0] for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("fault", [LOST, HANG, BUG], ids=["fails", "hangs", "makes no sense"])
@pytest.mark.parametrize("where", ["subscribe_fault", "list_fault"])
@virtual
async def test_an_engine_that_cannot_be_followed_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, where: str, fault: Fault
) -> None:
    source = FakeSource()
    setattr(source, where, fault)
    async with Kept(source, follow=True) as kept:
        await asyncio.sleep(100)
        assert len(source.subscriptions) > 20
        assert ["the engine cannot be followed"] == warnings(caplog)
        bugs = [record for record in caplog.records if record.levelname == "ERROR"]
        assert (1 if fault is BUG else 0) == len(bugs)
        assert all(record.exc_info and record.exc_info[1] is BUG for record in bugs)
        setattr(source, where, None)
        await in_sync(kept)
        caplog.clear()
        setattr(source, where, fault)
        for _ in range(2):
            source.lose_streams()
            await asyncio.sleep(100)
        assert ["the engine's events are lost"] == warnings(caplog)
        setattr(source, where, None)
        await in_sync(kept)
        caplog.clear()
        source.lose_streams()
        await asyncio.sleep(100)
        assert ["the engine's events are lost"] == warnings(caplog)


@virtual
async def test_an_engine_that_is_followed_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        await asyncio.sleep(100)
    assert [] == warnings(caplog)


# Waiting for the view.


@virtual
async def test_all_waiters_wake_when_the_view_is_in_sync() -> None:
    source = FakeSource(duration=lambda: 1.0)
    source.create(BOT, announce=False)
    async with Kept(source, follow=True) as kept:
        waiting = [asyncio.create_task(kept.synchronizer.in_sync()) for _ in range(3)]
        await in_sync(kept)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(task.done() for task in waiting)


@virtual
async def test_an_engine_that_was_lost_for_a_moment_is_waited_for_and_no_reason_is_left_over() -> None:
    source = FakeSource()
    source.create(BOT, announce=False)
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        source.held.update(source.containers)
        source.lose_streams()
        await asyncio.sleep(0.2)
        assert not kept.view.in_sync
        waiting = asyncio.create_task(kept.synchronizer.in_sync())
        await asyncio.sleep(1)
        assert not waiting.done()
        source.held.clear()
        for inspection in source.inspections:
            if not inspection.answered.done():
                inspection.answer()
        await waiting
        assert kept.view.in_sync


@virtual
async def test_who_asks_an_absent_engine_again_and_again_hears_why_and_leaves_nothing_behind() -> None:
    source = FakeSource()
    source.subscribe_fault = LOST
    async with Kept(source, follow=True) as kept:
        await asyncio.sleep(0.05)
        depths = []
        for _ in range(20):
            with pytest.raises(ContainerManagerError) as raised:
                await kept.synchronizer.in_sync()
            depths.append(len(raised.traceback))
        assert 1 == len(set(depths))


@virtual
async def test_the_view_is_out_of_sync_before_following_ends() -> None:
    """A caller that sees that following has ended must not see a trusted view."""
    async with Kept(follow=True) as kept:
        await in_sync(kept)
        kept.source.lose_streams()
        while kept.synchronizer.following:  # noqa: ASYNC110 - the exact iteration of the loop matters
            await asyncio.sleep(0)
        assert not kept.view.in_sync


# Losses of an engine that is there.


async def many_running(source: FakeSource, count: int, since: float = 3600) -> list[str]:
    """Containers that have run for a while."""
    keys = [source.create(BOT, f"c{number}", announce=False, state=RUNNING) for number in range(count)]
    for key in keys:
        source.running_since[key] = now() - since
    return keys


@virtual
async def test_after_a_loss_only_what_may_have_changed_is_inspected() -> None:
    """Restarted, stopped, renamed, unhealthy, otherwise published, not running at all, new and removed ones."""
    source = FakeSource()
    steady = await many_running(source, 300)
    restarted, stopped, renamed, ill, published, removed = await many_running(source, 6)
    down = source.create(BOT, "down", announce=False, state=EXITED)
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        await asyncio.sleep(100)
        kept.synchronizer.answered()
        source.inspections.clear()
        source.lose_streams()
        source.change(restarted, announce=False, start_time_ns=1)
        source.change(stopped, announce=False, state=EXITED)
        for key, fields in (
            (renamed, {"name": "other"}),
            (ill, {"health": HealthStatus.UNHEALTHY}),
            (published, {"ports": (PortBinding(1, 2),)}),
        ):
            source.change(key, announce=False, **fields)
            source.running_since[key] = now() - 3600
        source.change(down, announce=False, error="no such file")
        source.remove(removed, announce=False)
        new = source.create(BOT, "new", announce=False, state=RUNNING)
        await asyncio.sleep(0.01)
        assert not kept.view.in_sync
        await in_sync(kept)
        assert source.containers == kept.shown()
        changed = {restarted, stopped, renamed, ill, published, removed, down, new}
        assert changed == {inspection.key for inspection in source.inspections}
        assert {True} == {kept.view.answers_for_all}
        assert set(steady) <= kept.view.ids()


@virtual
async def test_what_has_started_since_the_engine_last_answered_is_inspected_however_late_the_loss_is_seen() -> None:
    source = FakeSource()
    (key,) = await many_running(source, 1)
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        # The engine does not answer any more, and no event tells of the restart.
        await asyncio.sleep(300)
        source.change(key, announce=False, start_time_ns=1)
        await asyncio.sleep(200)
        source.lose_streams()
        await asyncio.sleep(0.01)
        await in_sync(kept)
        assert source.containers == kept.shown()


@virtual
async def test_a_resync_of_thousands_goes_in_steps() -> None:
    """No step of the loop starts more than a batch of inspections, and few are under way at once."""
    source = FakeSource(duration=lambda: 0.01)
    await many_running(source, 2000)
    async with Kept(source, follow=True) as kept:
        most = 0
        while not kept.view.in_sync:
            most = max(most, len(kept.refresher.pending()))
            await asyncio.sleep(0.001)
        assert 0 < most <= 128
        begun = Counter(inspection.key for inspection in source.inspections)
        assert {1} == set(begun.values())
        assert 2000 == len(begun)


@virtual
async def test_a_resync_of_an_engine_that_is_too_slow_for_it_inspects_each_container_once() -> None:
    """Its next look at what it could not inspect comes later."""
    source = FakeSource()
    keys = [source.create(BOT, f"c{number}", announce=False, state=EXITED) for number in range(16)]
    async with Kept(source, follow=True) as kept:
        await in_sync(kept)
        source.inspections.clear()
        source.faults.update(dict.fromkeys(keys, HANG))
        kept.synchronizer.drop()
        await asyncio.sleep(0.01)
        await in_sync(kept)
        assert dict.fromkeys(keys, 1) == Counter(inspection.key for inspection in source.inspections)
        assert (source.containers, set(keys)) == (kept.shown(), kept.view.doubts)
        source.faults.clear()
        await asyncio.sleep(5)
        assert (source.containers, set()) == (kept.shown(), kept.view.doubts)


@virtual
async def test_a_thousand_events_at_once_leave_the_event_loop_to_others() -> None:
    async with Kept(follow=True) as kept:
        key = kept.source.create(BOT)
        await asyncio.sleep(1)
        touches: list[int] = [0]
        touch = kept.refresher.touch

        def counting(container_id: str, **how: bool) -> None:
            touches[-1] += 1
            touch(container_id, **how)

        kept.refresher.touch = counting  # type: ignore[method-assign]
        for _ in range(1000):
            kept.source.tell(key)
        while sum(touches) < 1000:
            touches.append(0)
            await asyncio.sleep(0)
        assert max(touches) <= 25
