"""The lag of the view: measured only for changes by an event, and only once."""

from __future__ import annotations

import time

import pytest

from container_manager.backend import Notice
from container_manager.model import ContainerState
from container_manager.view.event_lag import EventLag
from container_manager.view.synchronizer import Synchronizer
from tests.support.fake_source import FakeSource
from tests.support.kept_view import Kept
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT

RUNNING, EXITED = ContainerState.RUNNING, ContainerState.EXITED


def ago(seconds: float) -> int:
    return time.time_ns() - int(seconds * 1e9)


async def settled(kept: Kept, key: str) -> None:
    kept.refresher.touch(key)
    await kept.refresher.settled([key])


@virtual
async def test_an_event_counts_when_the_view_shows_what_it_changed() -> None:
    told: list[float] = []
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source) as kept:
        lag = EventLag(kept.view, told.append)
        await settled(kept, key)
        source.change(key, state=RUNNING)
        lag.received(key, ago(5))
        # Further events of the burst are part of the first one.
        lag.received(key, ago(0))
        assert [] == told
        await settled(kept, key)
        assert [5] == [round(seconds) for seconds in told]
        await settled(kept, key)
        assert 1 == len(told)


@virtual
async def test_an_event_that_changes_nothing_does_not_count_for_a_later_one() -> None:
    told: list[float] = []
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source) as kept:
        lag = EventLag(kept.view, told.append)
        await settled(kept, key)
        lag.received(key, ago(1000))
        await settled(kept, key)
        source.change(key, state=RUNNING)
        lag.received(key, ago(3))
        await settled(kept, key)
        assert [3] == [round(seconds) for seconds in told]


@virtual
@pytest.mark.parametrize("removed", [False, True])
async def test_an_event_that_changes_nothing_does_not_count_for_a_change_that_no_event_tells_of(removed: bool) -> None:
    told: list[float] = []
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source) as kept:
        lag = EventLag(kept.view, told.append)
        await settled(kept, key)
        lag.received(key, ago(3600))
        await settled(kept, key)
        if removed:
            source.remove(key)
            kept.view.remove(key)
        else:
            source.change(key, state=RUNNING)
            await settled(kept, key)
        assert [] == told
        assert {} == lag._events


@virtual
async def test_a_removal_counts_and_what_was_missed_does_not() -> None:
    told: list[float] = []
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source) as kept:
        lag = EventLag(kept.view, told.append)
        await settled(kept, key)
        lag.received(key, ago(1000))
        kept.view.lose()
        kept.view.regain()
        source.change(key, state=EXITED)
        await settled(kept, key)
        assert [] == told
        lag.received(key, ago(2))
        source.remove(key)
        kept.refresher.gone(key)
        assert [2] == [round(seconds) for seconds in told]


@virtual
async def test_events_of_before_the_subscription_and_of_strangers_are_not_told() -> None:
    events: list[tuple[str, int]] = []
    source = FakeSource()
    key = source.create(BOT, announce=False)
    async with Kept(source) as kept:
        follower = Synchronizer(kept.view, source, kept.refresher, lambda *event: events.append(event))
        await settled(kept, key)
        soon = time.time_ns() + 10**12

        async def notices():  # type: ignore[no-untyped-def]
            yield Notice(key, gone=False, managed=True, time_ns=ago(1))
            yield Notice(key, gone=False, managed=True)
            yield Notice("f" * 64, gone=False, managed=False, time_ns=soon)
            yield Notice(key, gone=False, managed=True, time_ns=soon)

        await follower._read(notices())
        await kept.refresher.settled([key])
    assert [(key, soon)] == events
