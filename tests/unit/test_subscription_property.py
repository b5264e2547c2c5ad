"""Whatever happens between two events, a watcher receives the current state, in order, and of every container."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from container_manager.model import ContainerStatus, container_name
from container_manager.view import subscription as subscription_module
from container_manager.view.live_view import Entry
from container_manager.view.subscription import ChangeLog, Kind, Subscription, WatchEvent
from tests.support.virtual_loop import run
from tests.unit.documents import BOT, OTHER_BOT
from tests.unit.viewing import A, trusted_view

Steps = list[tuple[str, int]]
Bots = set[str]

# The bot, of three, that a step is about.
BOTS = (BOT, OTHER_BOT, "c0ffee00-0000-4000-8000-000000000003")
SLOT = st.integers(0, len(BOTS) - 1)
CHANGE = st.tuples(st.sampled_from(["change", "partial", "remove", "find"]), SLOT)
ENGINE = st.tuples(st.sampled_from(["lose", "regain"]), st.just(0))
READER = st.tuples(st.sampled_from(["read", "pause", "give up"]), st.integers(1, 4))
STEPS = st.lists(st.one_of(CHANGE, READER, ENGINE), max_size=40)
WATCHED = st.sets(st.sampled_from(BOTS))
# Many changes of few bots, and few reads: each read finds changes of every kind pending.
SLOW = st.lists(
    st.sampled_from([(verb, slot) for verb in ("change", "remove", "find") for slot in (0, 1)] + [("take", 1)]),
    max_size=30,
)


class Course:
    """One interleaving of changes and of a watcher's reads; checks each event when the watcher receives it.

    Beside it, one reads everything at once, and one nothing until the end.
    """

    def __init__(self, before: Steps, steps: Steps, watched: Bots) -> None:
        self.view = trusted_view()
        self.told: list[WatchEvent] = []
        self.told_at_once: list[WatchEvent] = []
        self.told_at_last: list[WatchEvent] = []
        self.wrong: list[str] = []
        self.losses: list[int] = []
        self._watched = watched
        self._serial = 0
        self._current: dict[int, ContainerStatus] = {}
        self._removed: dict[int, ContainerStatus] = {}
        self.ever: set[str] = set()
        self.all_ever: set[str] = set()
        self._allowed = asyncio.Semaphore(0)
        with pytest.MonkeyPatch.context() as patch:
            # As small as they can be, so that few changes take several steps.
            patch.setattr(subscription_module, "_SLACK", 0)
            patch.setattr(subscription_module, "_LOOKS_AT_ONCE", 1)
            run(self._run(before, steps))

    async def _run(self, before: Steps, steps: Steps) -> None:
        for verb, slot in before:
            self._happen(verb, slot)
        self.ever_before = set(self.ever)
        changes = ChangeLog(self.view)
        subscription, eager, late = (Subscription(changes, self._watched) for _ in range(3))
        with subscription, eager, late:
            reading = asyncio.ensure_future(self._read(subscription))
            others = [asyncio.ensure_future(self._read_all(eager, self.told_at_once))]
            for verb, number in steps:
                if verb == "read":
                    self._allow(number)
                elif verb == "take":
                    self._allow(number)
                    await asyncio.sleep(1)
                elif verb == "pause":
                    for _ in range(number):
                        await asyncio.sleep(0)
                elif verb == "give up":
                    reading.cancel()
                    await asyncio.wait({reading})
                    self._allowed.release()
                    reading = asyncio.ensure_future(self._read(subscription))
                else:
                    self._happen(verb, number)
                self._must(len(changes) <= 2 * (len(self.all_ever) + 1), "more is kept than the newest of each")
            self.view.regain()
            self._allow(len(self.ever) + 4)
            others.append(asyncio.ensure_future(self._read_all(late, self.told_at_last)))
            await asyncio.sleep(1)
            self._must(not self._allowed.locked(), "something was told twice")
            for task in (reading, *others):
                task.cancel()

    def _allow(self, number: int) -> None:
        for _ in range(number):
            self._allowed.release()

    async def _read(self, subscription: Subscription) -> None:
        while True:
            await self._allowed.acquire()
            self._judge(await subscription.next())

    @staticmethod
    async def _read_all(subscription: Subscription, told: list[WatchEvent]) -> None:
        while True:
            told.append(await subscription.next())

    def _happen(self, verb: str, slot: int) -> None:
        if verb == "lose" and self.view.in_sync:
            self.view.lose()
            self.losses.append(self.view.version)
        elif verb == "regain" and not self.view.in_sync:
            self.view.regain()
        elif verb == "remove" and slot in self._current:
            self._removed[slot] = self._current.pop(slot)
            self.view.remove(self._removed[slot].container_id)
        elif verb == "find" and slot in self._removed and slot not in self._current:
            self._current[slot] = self._removed[slot]
            self._change(slot, partial=False)
        elif verb in ("change", "partial"):
            self._change(slot, partial=verb == "partial")

    def _change(self, slot: int, *, partial: bool) -> None:
        """Change a container to a state that is unlike all earlier ones."""
        self._serial += 1
        new = replace(A, container_id=f"{self._serial:064x}", bot_id=BOTS[slot], name=container_name(BOTS[slot]))
        status = replace(self._current.get(slot, new), restart_count=self._serial)
        self._current[slot] = status
        self.all_ever.add(status.container_id)
        if self.watches(status):
            self.ever.add(status.container_id)
        assert self.view.apply(status, self.view.tick(), partial=partial)

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of all received events."""
        return [telling.kind for telling in self.told]

    def watches(self, status: ContainerStatus) -> bool:
        return not self._watched or status.bot_id in self._watched

    def _judge(self, telling: WatchEvent) -> None:
        """Compare an event with the current state of the view."""
        self.told.append(telling)
        self._must(self.view.in_sync, f"{telling} was told while the engine was away")
        if telling.entry is not None:
            newest = self.view.get(telling.entry.status.container_id)
            self._must(newest is (None if telling.kind is Kind.REMOVED else telling.entry), f"{telling} was not true")
            self._must(self.watches(telling.entry.status), f"{telling} was not asked for")

    def _must(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)


courses = given(st.lists(CHANGE, max_size=6), STEPS, WATCHED)
many = settings(max_examples=50, derandomize=True)


@courses
@many
def test_each_event_has_the_newest_state_and_versions_never_decrease(
    before: Steps, steps: Steps, watched: Bots
) -> None:
    course = Course(before, steps, watched)
    assert [] == course.wrong
    versions = [telling.version for telling in course.told]
    assert sorted(versions) == versions
    after = versions[course.kinds.index(Kind.SYNCED) :]
    assert len(set(after)) == len(after)


@courses
@many
def test_snapshots_of_different_containers_then_one_synced_then_neither_again(
    before: Steps, steps: Steps, watched: Bots
) -> None:
    course = Course(before, steps, watched)
    end = course.kinds.index(Kind.SYNCED)
    shown = [telling.entry.status.container_id for telling in course.told[:end] if telling.entry]
    assert [Kind.SNAPSHOT] * end == course.kinds[:end]
    assert len(set(shown)) == end
    assert {Kind.SNAPSHOT, Kind.SYNCED}.isdisjoint(course.kinds[end + 1 :])


def applied(told: Sequence[WatchEvent]) -> dict[str, Entry]:
    """The containers of a watcher that applies these events; it must know a container that is removed."""
    known: dict[str, Entry] = {}
    for telling in told:
        if telling.entry is not None:
            key = telling.entry.status.container_id
            if telling.kind is Kind.REMOVED:
                del known[key]
            else:
                known[key] = telling.entry
    return known


def assert_told_right(course: Course) -> None:
    """Each watcher has the containers of the view, and every event was true when it received it."""
    assert [] == course.wrong
    there = {entry.status.container_id: entry for entry in course.view.entries() if course.watches(entry.status)}
    for told in (course.told, course.told_at_once, course.told_at_last):
        assert there == applied(told)


@courses
@many
def test_a_subscriber_that_applies_all_events_equals_the_view(before: Steps, steps: Steps, watched: Bots) -> None:
    assert_told_right(Course(before, steps, watched))


@given(SLOW, SLOW)
@settings(max_examples=100, derandomize=True)
@example([], [("take", 1), ("change", 0), ("take", 1), ("remove", 0), ("find", 0), ("remove", 0)])
@example([("change", 0)], [("take", 2), ("remove", 0), ("find", 0), ("remove", 0)])
@example([("change", 0)], [("remove", 0), ("find", 0), ("remove", 0)])
@example([], [("take", 1), ("change", 0), ("remove", 0), ("find", 0), ("take", 1), ("remove", 0)])
def test_a_container_that_was_gone_and_is_found_again_is_told_rightly_to_one_who_hardly_reads(
    before: Steps, steps: Steps
) -> None:
    assert_told_right(Course(before, steps, set()))


@courses
@many
def test_after_every_loss_resynced_is_told_with_the_version_of_the_last_one(
    before: Steps, steps: Steps, watched: Bots
) -> None:
    course = Course(before, steps, watched)
    resynced = [telling.version for telling in course.told if telling.kind is Kind.RESYNCED]
    assert course.losses[-1:] == resynced[-1:]
    assert set(resynced) <= set(course.losses)
