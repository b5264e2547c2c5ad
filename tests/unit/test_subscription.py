"""The events of one watcher: each container's newest state, once, however slowly it reads."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from container_manager.model import ContainerFilter, ContainerState, ContainerStatus, HealthStatus
from container_manager.view import subscription as subscription_module
from container_manager.view.subscription import ChangeLog, Kind, Subscription, WatchEvent
from tests.support.traced_memory import traced
from tests.support.virtual_loop import now, run, virtual
from tests.unit.documents import BOT
from tests.unit.viewing import A, B, apply, trusted_view

STOPPED = replace(A, state=ContainerState.EXITED)
SNAPSHOT, SYNCED, CHANGED, REMOVED, RESYNCED = Kind


async def told(subscription: Subscription) -> list[WatchEvent]:
    """All events that are pending now."""
    everything = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(1):
                everything.append(await subscription.next())
    return everything


def short(tellings: list[WatchEvent]) -> list[tuple[Kind, ContainerStatus | None]]:
    """The events without their versions."""
    return [(kind, entry and entry.status) for kind, _, entry in tellings]


@virtual
async def test_first_every_container_in_the_lists_order_then_synced_all_with_the_version_of_the_begin() -> None:
    view = trusted_view(A, B)
    with Subscription(ChangeLog(view)) as subscription:
        tellings = await told(subscription)
    assert [(SNAPSHOT, B), (SNAPSHOT, A), (SYNCED, None)] == short(tellings)
    assert {view.version} == {version for _, version, _ in tellings}


@virtual
async def test_without_containers_only_synced_is_sent() -> None:
    with Subscription(ChangeLog(trusted_view())) as subscription:
        assert [(SYNCED, None)] == short(await told(subscription))


@virtual
async def test_changes_and_removals_are_told_as_they_happen_with_their_own_versions() -> None:
    view = trusted_view(A)
    begun = view.version
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        apply(view, STOPPED)
        assert [(CHANGED, begun + 1)] == [each[:2] for each in await told(subscription)]
        apply(view, B)
        view.remove(A.container_id)
        tellings = await told(subscription)
    assert [(CHANGED, B), (REMOVED, STOPPED)] == short(tellings)
    assert [begun + 2, begun + 3] == [version for _, version, _ in tellings]


@virtual
async def test_a_waiting_subscriber_gets_a_change_at_once() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(10)
        assert not waiting.done()
        apply(view, A)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()


@virtual
async def test_only_the_given_bots_are_told_of_and_the_engines_absence() -> None:
    view = trusted_view(A, B)
    with Subscription(ChangeLog(view), [BOT]) as subscription:
        assert [(SNAPSHOT, A), (SYNCED, None)] == short(await told(subscription))
        apply(view, replace(B, state=ContainerState.EXITED), STOPPED)
        view.remove(B.container_id)
        view.lose()
        view.regain()
        assert [(CHANGED, STOPPED), (RESYNCED, None)] == short(await told(subscription))


@virtual
async def test_a_container_that_changes_before_its_snapshot_is_shown_as_it_is_then_and_not_told_twice() -> None:
    view = trusted_view(B, A)
    with Subscription(ChangeLog(view)) as subscription:
        await subscription.next()
        apply(view, STOPPED)
        assert [(SNAPSHOT, STOPPED), (SYNCED, None)] == short(await told(subscription))


@virtual
async def test_a_container_that_changes_after_its_snapshot_is_told_of_after_synced() -> None:
    view = trusted_view(B, A)
    stopped = replace(B, state=ContainerState.EXITED)
    with Subscription(ChangeLog(view)) as subscription:
        await subscription.next()
        apply(view, stopped)
        assert [(SNAPSHOT, A), (SYNCED, None), (CHANGED, stopped)] == short(await told(subscription))


@virtual
async def test_a_container_that_comes_before_synced_is_told_of_after_it() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        apply(view, B)
        assert [(SNAPSHOT, A), (SYNCED, None), (CHANGED, B)] == short(await told(subscription))


@virtual
async def test_a_container_that_goes_before_its_snapshot_is_not_told_of_at_all() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        view.remove(A.container_id)
        assert [(SYNCED, None)] == short(await told(subscription))


@virtual
async def test_a_slow_reader_is_told_the_newest_state_only_in_the_order_of_the_last_changes() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        for health in (*HealthStatus, *HealthStatus):
            apply(view, B, replace(A, health=health), replace(B, health=health))
        apply(view, A)
        assert [(CHANGED, replace(B, health=health)), (CHANGED, A)] == short(await told(subscription))


@virtual
async def test_a_slow_reader_is_told_of_a_removal_and_of_nothing_that_was_before_it() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        apply(view, STOPPED)
        view.remove(A.container_id)
        assert [(REMOVED, STOPPED)] == short(await told(subscription))


@virtual
async def test_while_the_engine_is_away_nothing_is_told_and_then_what_was_before_resynced_and_what_is_new() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        apply(view, STOPPED)
        view.lose()
        lost_version = view.version
        assert [] == await told(subscription)
        apply(view, B)
        assert [] == await told(subscription)
        view.regain()
        tellings = await told(subscription)
    assert [(CHANGED, STOPPED), (RESYNCED, None), (CHANGED, B)] == short(tellings)
    assert [lost_version - 1, lost_version, lost_version + 1] == [version for _, version, _ in tellings]


@virtual
async def test_what_changed_while_the_engine_was_away_is_told_after_resynced_in_place_of_what_was_before() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        apply(view, STOPPED)
        view.lose()
        apply(view, A)
        view.regain()
        assert [(RESYNCED, None), (CHANGED, A)] == short(await told(subscription))


@virtual
async def test_several_absences_that_a_slow_reader_missed_are_one() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        for _ in range(3):
            view.lose()
            view.regain()
        assert [(RESYNCED, view.version, None)] == await told(subscription)


@virtual
async def test_an_absence_during_the_snapshot_is_told_after_synced() -> None:
    view = trusted_view(A, B)
    with Subscription(ChangeLog(view)) as subscription:
        await subscription.next()
        view.lose()
        apply(view, STOPPED)
        view.regain()
        assert [(SNAPSHOT, STOPPED), (SYNCED, None), (RESYNCED, None)] == short(await told(subscription))


@virtual
async def test_an_engine_that_is_lost_again_at_once_is_waited_for_again() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        view.lose()
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(1)
        view.regain()
        view.lose()
        await asyncio.sleep(1)
        assert not waiting.done()
        view.regain()
        assert (RESYNCED, view.version, None) == await waiting


@virtual
async def test_a_cancelled_wait_misses_nothing() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(1)
        apply(view, A)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert [(CHANGED, A)] == short(await told(subscription))


@virtual
async def test_a_closed_subscription_receives_and_holds_nothing() -> None:
    view = trusted_view(B)
    changes = ChangeLog(view)
    with Subscription(changes) as subscription:
        await told(subscription)
        apply(view, A)
        assert 1 == len(changes)
    apply(view, STOPPED)
    view.remove(B.container_id)
    view.lose()
    assert 0 == len(changes)


@virtual
async def test_containers_that_come_and_go_do_not_pile_up_before_one_who_does_not_read() -> None:
    """Also not when another one reads everything, and so is to be told that they are gone."""
    view = trusted_view(A)
    changes = ChangeLog(view)
    with Subscription(changes) as subscription, Subscription(changes) as reading:
        await told(subscription)
        await told(reading)
        for number in range(1000):
            passing = replace(B, container_id=f"{number:064x}")
            apply(view, passing)
            assert CHANGED is (await reading.next()).kind
            apply(view, replace(passing, state=ContainerState.EXITED))
            view.remove(passing.container_id)
            assert REMOVED is (await reading.next()).kind
            assert len(changes) <= 2 * 2 + subscription_module._SLACK
        assert changes.bit(B.container_id).bit_length() <= 2 * 2 + subscription_module._SLACK
        apply(view, B)
        assert [(CHANGED, B)] == short(await told(subscription))


def many(count: int, **changed: Any) -> list[ContainerStatus]:
    """Containers of as many bots."""
    return [replace(B, container_id=f"{number:064x}", bot_id=f"b{number}", **changed) for number in range(count)]


def test_watchers_who_do_not_read_cost_little_more_than_one_of_them() -> None:
    """Half of them have read all that there was. Then everything changes, and half of it goes."""

    async def memory(watchers: int) -> int:
        view = trusted_view(*many(1_000))
        changes = ChangeLog(view)
        with ExitStack() as stack:
            held = stack.enter_context(traced())
            slow = [stack.enter_context(Subscription(changes)) for _ in range(watchers)]
            for watcher in slow[::2]:
                assert SYNCED is (await told(watcher))[-1].kind
            apply(view, *many(1_000, state=ContainerState.EXITED))
            for container_id in view.order()[:500]:
                view.remove(container_id)
            taken = held()
            for watcher in slow[::2]:
                kinds = [kind for kind, _ in short(await told(watcher))]
                assert [CHANGED] * 500 + [REMOVED] * 500 == kinds
        return taken

    assert run(memory(41)) - run(memory(1)) <= 40 * 3_000


@virtual
async def test_watchers_of_few_among_thousands_look_for_theirs_in_small_steps_all_together() -> None:
    """At the start, and when everything has changed, as after a restart of the engine."""
    bots = 3_000
    view = trusted_view(*many(bots))
    changes = ChangeLog(view)
    looks: Counter[float] = Counter()

    class Counting(ContainerFilter):
        def matches(self, status: ContainerStatus) -> bool:
            looks[now()] += 1
            return super().matches(status)

    with ExitStack() as stack:
        watchers = [stack.enter_context(Subscription(changes, [f"b{bots - 1}"])) for _ in range(20)]
        for watcher in watchers:
            watcher._wanted = Counting(watcher._wanted.states, watcher._wanted.bot_ids)
        for events in await asyncio.gather(*map(told, watchers)):
            assert [SNAPSHOT, SYNCED] == [kind for kind, _ in short(events)]
        waiting = [asyncio.ensure_future(told(watcher)) for watcher in watchers]
        view.lose()
        apply(view, *many(bots, state=ContainerState.EXITED))
        await asyncio.sleep(0)
        view.regain()
        for events in await asyncio.gather(*waiting):
            assert [RESYNCED, CHANGED] == [kind for kind, _ in short(events)]
    assert 20 * 2 * bots <= looks.total()
    assert max(looks.values()) <= (20 + subscription_module._STEPS_AT_ONCE) * subscription_module._LOOKS_AT_ONCE


@virtual
async def test_a_new_container_that_was_told_of_is_told_to_be_gone() -> None:
    view = trusted_view()
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        apply(view, B)
        assert [(CHANGED, B)] == short(await told(subscription))
        apply(view, replace(B, state=ContainerState.EXITED))
        view.remove(B.container_id)
        assert [REMOVED] == [kind for kind, _ in short(await told(subscription))]


@virtual
async def test_a_container_that_was_gone_and_found_and_gone_again_unread_is_told_to_be_gone() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        view.remove(A.container_id)
        apply(view, STOPPED)
        view.remove(A.container_id)
        assert [(REMOVED, STOPPED)] == short(await told(subscription))


@virtual
async def test_a_container_that_was_gone_and_is_found_again_unread_has_changed() -> None:
    view = trusted_view(A)
    with Subscription(ChangeLog(view)) as subscription:
        await told(subscription)
        view.remove(A.container_id)
        apply(view, STOPPED)
        assert [(CHANGED, STOPPED)] == short(await told(subscription))
        view.remove(A.container_id)
        apply(view, A)
        assert [(CHANGED, A)] == short(await told(subscription))
