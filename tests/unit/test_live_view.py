"""The live view: the statuses that it accepts, their order, and when it may be trusted."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from container_manager.model import ContainerState, HealthStatus, owned_bot
from container_manager.view.live_view import Entry, LiveView
from tests.support.virtual_loop import virtual
from tests.unit.documents import BOT, NAME, OTHER_BOT
from tests.unit.viewing import A, B, apply, trusted_view


class Heard:
    """A listener that keeps its notifications."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def changed(self, entry: Entry) -> None:
        self.told.append(("changed", entry.status, entry.version))

    def removed(self, entry: Entry, version: int) -> None:
        self.told.append(("removed", entry.status, version))

    def lost(self, version: int) -> None:
        self.told.append(("lost", version))

    def regained(self) -> None:
        self.told.append(("regained",))


@pytest.fixture
def view() -> LiveView:
    """An empty, trusted view."""
    return trusted_view()


@pytest.fixture
def heard(view: LiveView) -> Heard:
    heard = Heard()
    view.add_listener(heard)
    return heard


def listed(view: LiveView, *states: ContainerState) -> list[str]:
    return [entry.status.container_id[0] for entry in view.entries(states)]


def test_entries_are_ordered_by_create_time_and_then_id_whenever_they_came(view: LiveView) -> None:
    c, d = replace(A, container_id="c" * 64), replace(A, container_id="d" * 64, create_time_ns=None)
    apply(view, c, A, B)
    assert ["b", "a", "c"] == listed(view)
    apply(view, d)
    assert ["d", "b", "a", "c"] == listed(view)
    apply(view, replace(B, create_time_ns=3_000))
    assert ["d", "a", "c", "b"] == listed(view)
    view.remove(A.container_id)
    assert ["d", "c", "b"] == listed(view)
    assert 3 == len(view)


def test_entries_are_narrowed_by_state(view: LiveView) -> None:
    apply(view, A, replace(B, state=ContainerState.EXITED))
    assert ["a"] == listed(view, ContainerState.RUNNING)
    assert ["b", "a"] == listed(view, ContainerState.RUNNING, ContainerState.EXITED)
    assert [] == listed(view, ContainerState.DEAD)


def test_an_entry_keeps_the_status_in_its_wire_form(view: LiveView) -> None:
    apply(view, A)
    entry = view.get(A.container_id)
    assert entry is not None
    assert (A, f"{A.container_id} {NAME}".encode()) == (entry.status, entry.encoded)


@pytest.mark.parametrize(
    ("fields", "holders"),
    [
        ({"name": "other"}, ("a", None)),
        ({"bot_id": OTHER_BOT}, (None, "a")),
        ({"bot_id": "", "name": "other"}, (None, None)),
        ({"bot_id": ""}, (None, None)),
    ],
    ids=str,
)
def test_a_container_of_another_name_is_its_bots_by_the_label_and_owned_by_none(
    view: LiveView, fields: dict[str, str], holders: tuple[str | None, str | None]
) -> None:
    apply(view, replace(A, **fields))
    assert holders == (held_by(view), held_by(view, OTHER_BOT))
    assert {None} == {entry.bot for entry in view.entries()}
    assert (["a"], True, True) == (listed(view), view.answers_for(BOT), view.answers_for_all)


def test_the_container_with_the_bots_name_comes_before_the_newest_of_other_names(view: LiveView) -> None:
    anna, berta = (
        replace(A, container_id=key * 64, name=key, create_time_ns=time) for key, time in (("c", 3), ("d", 4))
    )
    apply(view, berta, anna)
    assert "d" == held_by(view)
    apply(view, A)
    assert "a" == held_by(view)
    view.remove(A.container_id)
    assert "d" == held_by(view)
    apply(view, replace(anna, name=NAME))
    assert "c" == held_by(view)
    view.remove(anna.container_id)
    view.remove(berta.container_id)
    assert held_by(view) is None


def test_a_bot_is_answered_for_once_all_its_containers_of_other_names_are_known(view: LiveView) -> None:
    """Any of them may have been given the bot's name."""
    anna, berta = (replace(A, container_id=key * 64, name=key) for key in "cd")
    apply(view, anna, berta)
    assert view.answers_for(BOT)
    view.doubts.add(anna.container_id)
    assert (False, True) == (view.answers_for(BOT), view.answers_for(OTHER_BOT))
    apply(view, A)
    assert view.answers_for(BOT)
    view.remove(A.container_id)
    view.doubts.clear()
    view.doubts.add("unknown")
    assert not view.answers_for(BOT)


def held_by(view: LiveView, bot_id: str = BOT) -> str | None:
    entry = view.of_bot(bot_id)
    return None if entry is None else entry.status.container_id[0]


def owner(view: LiveView) -> str | None:
    """The bot that owns the container."""
    (entry,) = view.entries()
    return entry.bot


def test_a_container_that_is_renamed_away_and_back_is_owned_only_while_it_has_the_name(view: LiveView) -> None:
    apply(view, A)
    assert (BOT, "a") == (owner(view), held_by(view))
    apply(view, replace(A, name="other"))
    assert (None, "a") == (owner(view), held_by(view))
    apply(view, A)
    assert (BOT, "a") == (owner(view), held_by(view))
    view.remove(A.container_id)
    assert held_by(view) is None


def test_the_container_that_has_taken_over_the_name_stays_the_bots_when_the_former_one_is_heard_of(
    view: LiveView,
) -> None:
    apply(view, A, replace(A, container_id="c" * 64))
    assert "c" == held_by(view)
    apply(view, replace(A, name="other"))
    assert "c" == held_by(view)
    view.remove(A.container_id)
    assert "c" == held_by(view)


def test_a_late_answer_about_the_former_container_does_not_take_the_bots_new_one_from_it(view: LiveView) -> None:
    """A is inspected, then renamed, and C is created in its place; the result for A arrives last."""
    c = replace(A, container_id="c" * 64)
    apply(view, A)
    looked_at_a = view.tick()
    apply(view, c)
    view.apply(replace(A, health=HealthStatus.HEALTHY), looked_at_a)
    apply(view, replace(A, name="other"), c)
    assert "c" == held_by(view)


def test_a_late_answer_about_a_removed_container_does_not_take_the_bots_new_one_from_it(view: LiveView) -> None:
    c = replace(A, container_id="c" * 64)
    apply(view, A)
    looked_at_a = view.tick()
    apply(view, c)
    view.apply(replace(A, health=HealthStatus.HEALTHY), looked_at_a)
    view.remove(A.container_id)
    apply(view, c)
    assert "c" == held_by(view)


def test_a_container_that_has_got_its_name_back_unseen_is_the_bots_again(view: LiveView) -> None:
    """C had A's name for a while; A is inspected only after it has the name again, so nothing about it has changed."""
    c = replace(A, container_id="c" * 64)
    apply(view, A, c, A)
    assert "a" == held_by(view)
    apply(view, replace(c, name="other"))
    assert "a" == held_by(view)


def test_the_version_grows_with_every_change_and_every_change_is_told_with_it(view: LiveView, heard: Heard) -> None:
    begun = view.version
    renamed = replace(A, name="other")
    apply(view, A, B, renamed)
    view.remove(A.container_id)
    view.lose()
    view.regain()
    expected = [("changed", A), ("changed", B), ("changed", renamed), ("removed", renamed), ("lost",)]
    assert [(*what, begun + n) for n, what in enumerate(expected, 1)] == heard.told[:-1]
    assert ("regained",) == heard.told[-1]
    assert begun + 5 == view.version


def test_versions_begin_at_the_wall_clock_so_that_they_grow_across_restarts(view: LiveView) -> None:
    assert abs(view.version / 1e6 - time.time()) < 60


def test_an_unchanged_status_is_reported_to_nobody(view: LiveView, heard: Heard) -> None:
    apply(view, A)
    heard.told.clear()
    before = view.version
    apply(view, A, replace(A))
    view.remove(B.container_id)
    assert (before, []) == (view.version, heard.told)


def test_a_removed_listener_gets_no_more_changes(view: LiveView, heard: Heard) -> None:
    view.discard_listener(heard)
    apply(view, A)
    assert [] == heard.told


def test_an_inspection_that_began_before_the_last_one_was_applied_is_refused(view: LiveView, heard: Heard) -> None:
    first, second = view.tick(), view.tick()
    assert view.apply(A, second)
    assert not view.apply(replace(A, state=ContainerState.EXITED), first)
    assert [A] == [entry.status for entry in view.entries()]
    assert 1 == len(heard.told)
    apply(view, replace(A, state=ContainerState.EXITED))


def test_an_inspection_that_found_no_change_outdates_those_under_way_too(view: LiveView) -> None:
    apply(view, A)
    early = view.tick()
    apply(view, A)
    assert not view.apply(replace(A, state=ContainerState.EXITED), early)


def test_nothing_is_answered_before_the_view_is_in_sync_and_after_it_is_lost() -> None:
    view = LiveView(lambda _: b"", owned_bot)
    for _ in range(2):
        assert (False, False) == (view.answers_for(BOT), view.answers_for_all)
        view.regain()
        assert (True, True) == (view.answers_for(BOT), view.answers_for_all)
        view.lose()


def test_a_loss_is_reported_once(view: LiveView, heard: Heard) -> None:
    view.lose()
    view.lose()
    assert 1 == len(heard.told)


@pytest.mark.parametrize("doubted", [BOT, A.container_id], ids=["bot", "container"])
def test_a_doubt_withdraws_trust_from_its_bot_and_from_the_list(view: LiveView, doubted: str) -> None:
    apply(view, A, B)
    view.doubts.add(doubted)
    assert (False, True, False) == (view.answers_for(BOT), view.answers_for(OTHER_BOT), view.answers_for_all)
    view.doubts.discard(doubted)
    assert (True, True) == (view.answers_for(BOT), view.answers_for_all)


def test_a_container_known_by_its_list_row_only_is_listed_and_not_answered_for(view: LiveView) -> None:
    apply(view, B)
    view.doubts.add(A.container_id)
    apply(view, A, partial=True)
    assert (["b", "a"], True) == (listed(view), view.answers_for_all)
    assert (False, True) == (view.answers_for(BOT), view.answers_for(OTHER_BOT))


def test_an_unchanged_container_that_cannot_be_inspected_is_not_answered_for_and_is_no_change(
    view: LiveView, heard: Heard
) -> None:
    apply(view, A)
    apply(view, A, partial=True)
    assert not view.answers_for(BOT)
    apply(view, A)
    assert view.answers_for(BOT)
    assert 1 == len(heard.told)


def test_a_bot_without_a_container_is_not_answered_for_while_one_that_nobody_can_look_at_may_be_its(
    view: LiveView,
) -> None:
    """It is neither inspected nor listed, so its bot is unknown, also after a rename."""
    view.doubts.add(A.container_id)
    assert not view.answers_for(BOT)
    apply(view, A, partial=True)
    assert view.answers_for(OTHER_BOT)


def test_a_removed_container_is_no_longer_in_doubt(view: LiveView) -> None:
    apply(view, A)
    view.doubts.add(A.container_id)
    view.remove(A.container_id)
    assert (True, True) == (view.answers_for(BOT), view.answers_for_all)


@virtual
async def test_waiters_wait_until_the_view_is_in_sync() -> None:
    view = LiveView(lambda _: b"", owned_bot)
    waiting = asyncio.ensure_future(view.regained())
    await asyncio.sleep(1)
    assert not waiting.done()
    view.regain()
    await waiting


@virtual
async def test_waiters_keep_waiting_when_sync_is_lost_again_at_once() -> None:
    view = LiveView(lambda _: b"", owned_bot)
    waiting = asyncio.ensure_future(view.regained())
    await asyncio.sleep(1)
    view.regain()
    view.lose()
    await asyncio.sleep(1)
    assert not waiting.done()
    view.regain()
    await waiting
