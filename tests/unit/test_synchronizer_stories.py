"""Random changes of an engine, with late events and slow inspections: the view ends correct and never goes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_manager.backend import Created
from container_manager.model import (
    ContainerState,
    ContainerStatus,
    HealthStatus,
    container_name,
    newest_of_bot,
    owned_bot,
)
from container_manager.view.bot_change import BotChange
from tests.support.fake_source import HANG, LOST, FakeSource, Id
from tests.support.kept_view import Kept
from tests.support.virtual_loop import run
from tests.unit.documents import BOT, OTHER_BOT

CREATED, RUNNING, EXITED, PAUSED = map(ContainerState, ("created", "running", "exited", "paused"))
PASSING = (ContainerState.RESTARTING, ContainerState.REMOVING)
BUG = KeyError("Id")

# Longer than a denied container stays away.
_NOTICED_SECONDS = 3.0

BOTS = (Id(BOT), Id(OTHER_BOT))


class Story:
    """One random interleaving of an engine and its view, and the errors that it found."""

    def __init__(self, seed: int, *, losses: bool = False, faults: bool = False, denials: bool = False) -> None:
        self.wrong: list[str] = []
        self.wrong_of_bots: list[str] = []
        self._draw = draw = Random(seed)
        self._losses, self._faults, self._denials = losses, faults, denials
        self._last_denial: dict[str, float] = {}
        slowest, latest = draw.choice((0.001, 0.01, 0.05, 0.3)), draw.choice((0, 0.01, 0.1))
        self._source = FakeSource(
            duration=lambda: draw.random() * slowest * draw.choice((0, 0.1, 1)), lateness=lambda: draw.random() * latest
        )
        run(self._run())

    async def _run(self) -> None:
        async with Kept(self._source, follow=True) as kept:
            self._kept = kept
            audits, operations = asyncio.ensure_future(self._audit()), asyncio.ensure_future(self._operate())
            for _ in range(self._draw.randint(1, 25)):
                await asyncio.sleep(self._draw.random() * self._draw.choice((0, 0.01, 0.1)))
                self._change()
                self._trouble()
            await operations
            audits.cancel()
            # Longer than any delay before the next inspection or retry.
            await asyncio.sleep(100)
            await kept.audit.check()
            self._compare()
        self.wrong += kept.witness.wrong

    def _compare(self) -> None:
        view, source = self._kept.view, self._source
        if self._kept.shown() != source.containers:
            self.wrong.append(f"at quiet {self._kept.shown()} was shown for {source.containers}")
        if not view.answers_for_all or view.doubts or self._kept.refresher.pending():
            self.wrong.append(f"at quiet {view.doubts} were doubted, {self._kept.refresher.pending()} pending")
        if view.drift:
            self.wrong.append(f"the audit counted {view.drift}")
        for bot_id in BOTS:
            entry = view.of_bot(bot_id)
            if (entry and entry.status) != (right := source.of_bot(bot_id)):
                self.wrong_of_bots.append(f"at quiet {entry} was shown for {right}")

    def _change(self) -> None:
        """A change by another client of the engine."""
        draw, source = self._draw, self._source
        bot_id = draw.choice(BOTS)
        taken = {status.name for status in source.containers.values()}
        free = [name for name in (container_name(bot_id), f"other-{bot_id}") if name not in taken]
        own = [key for key, status in source.containers.items() if status.bot_id == bot_id]
        verb = draw.choice(("run", "health", "noise", "remove", "make anew", "pass", "rename", "replace"))
        if not own or (free and draw.random() < 0.2):
            source.create(bot_id, draw.choice(free))
            return
        key = draw.choice(own)
        name = source.containers[key].name
        if verb == "run":
            source.change(key, state=draw.choice((RUNNING, EXITED, PAUSED)))
        elif verb == "health":
            source.change(key, health=draw.choice(list(HealthStatus)))
        elif verb == "noise":
            source.tell(key, managed=draw.random() < 0.5)
        elif verb == "pass":
            source.change(key, state=draw.choice(PASSING))
            asyncio.get_running_loop().call_later(draw.random(), self._pass, key)
        elif verb in ("remove", "make anew"):
            source.remove(key)
        elif free:
            source.change(key, name=draw.choice(free))
        if (verb == "replace" and free) or verb == "make anew":
            source.create(bot_id, name)

    def _pass(self, key: str) -> None:
        if key in self._source.containers and self._source.containers[key].state in PASSING:
            self._source.change(key, state=EXITED, announce=False)

    def _trouble(self) -> None:
        draw, source = self._draw, self._source
        if self._losses and draw.random() < 0.1:
            source.lose_streams(draw.choice((LOST, BUG, None)))
        if self._faults and draw.random() < 0.2:
            key = draw.choice((*source.containers, *BOTS))
            source.faults[key] = draw.choice((HANG, LOST, BUG))
            asyncio.get_running_loop().call_later(draw.random() * 3, source.faults.pop, key, None)
        if self._faults and draw.random() < 0.05:
            source.list_fault = draw.choice((HANG, LOST))
            asyncio.get_running_loop().call_later(draw.random() * 3, setattr, source, "list_fault", None)

        if self._denials and source.containers and draw.random() < 0.3:
            self._deny(draw.choice(list(source.containers)))

    def _deny(self, key: str) -> None:
        """Deny the container once, and not again before the view has noticed."""
        time = asyncio.get_running_loop().time()
        if time - self._last_denial.get(key, -10) > _NOTICED_SECONDS and not self._source.denials[key]:
            self._source.denials[key] = 1
            self._last_denial[key] = time

    async def _audit(self) -> None:
        while True:
            await self._kept.audit.check()

    async def _operate(self) -> None:
        """Operations of the service: the view must show each when it has ended."""
        draw, source, view = self._draw, self._source, self._kept.view
        for _ in range(5):
            await asyncio.sleep(draw.random() * 0.2)
            bot_id = draw.choice(BOTS)
            removes = draw.random() < 0.4
            tolerates_stale_state = bool(source.serial % 2)
            change = BotChange(
                view, self._kept.refresher, None, bot_id, removes=removes, tolerates_stale_state=tolerates_stale_state
            )
            change.begin()
            await self._moment()
            # Like a backend: act on the known container, and look it up again if there is none.
            status = change.known if change.known and change.known.container_id in source.containers else None
            found = source.of_bot(bot_id)
            status = status or (found if found and owned_bot(found) else None)
            work = asyncio.get_running_loop().create_future()
            if status is not None and removes:
                source.remove(status.container_id)
                work.set_result(status.container_id)
            elif status is not None:
                source.change(status.container_id, state=draw.choice((RUNNING, EXITED)))
                work.set_result(status.container_id)
            elif removes or container_name(bot_id) in {each.name for each in source.containers.values()}:
                work.set_result("")
            else:
                key = source.create(bot_id)
                await self._moment()
                work.set_result(Created(key, source.containers.get(key)))
            # Events report the changes of others from here on.
            ended = source.serial
            await self._moment()
            change.end(work)
            await change.settled()
            entry = view.of_bot(bot_id)
            # Events report a container that takes the name of the removed one.
            if entry is None and removes and work.result():
                continue
            if view.answers_for(bot_id) and (entry and entry.status) not in self._since(bot_id, ended):
                self.wrong_of_bots.append(f"after an operation that ended at {ended}, {entry} was shown")

    async def _moment(self) -> None:
        """Give others time to act."""
        if self._draw.random() < 0.5:
            await asyncio.sleep(self._draw.random() * 0.05)

    def _since(self, bot_id: str, serial: int) -> Iterator[ContainerStatus | None]:
        """All states of the bot's container since a state of the engine, and of the one that it was then.

        That one may have changed since, and be seen to, before the events of a container that has taken its place.
        """
        there: dict[str, ContainerStatus | None] = {}
        first = ""
        for number, (key, status) in enumerate(self._source.history):
            there[key] = status
            if number >= serial:
                newest = newest_of_bot(bot_id, there.values())
                first = first or (newest.container_id if newest else "")
                yield from (newest, there.get(first))


many = settings(max_examples=50, derandomize=True)
seeds = given(st.integers(0, 2**32))


@seeds
@many
def test_after_random_changes_the_view_equals_the_engine_and_never_went_back(seed: int) -> None:
    assert [] == Story(seed).wrong


@seeds
@many
def test_after_random_losses_the_view_equals_the_engine_and_never_went_back(seed: int) -> None:
    assert [] == Story(seed, losses=True).wrong


@seeds
@many
def test_after_random_faults_the_view_equals_the_engine_and_never_went_back(seed: int) -> None:
    assert [] == Story(seed, losses=True, faults=True).wrong


@seeds
@many
def test_operations_of_our_own_are_seen_when_they_are_over_and_every_bot_has_the_right_container(seed: int) -> None:
    assert [] == Story(seed).wrong_of_bots


@seeds
@settings(max_examples=40, derandomize=True)
def test_after_random_denials_of_what_is_there_the_view_equals_the_engine(seed: int) -> None:
    assert [] == Story(seed, losses=True, denials=True).wrong


@pytest.mark.slow
def test_ten_thousand_random_stories_go_well(caplog: pytest.LogCaptureFixture) -> None:
    # caplog would keep the records of all faults, and everything that they refer to, until the end.
    caplog.set_level(logging.CRITICAL)
    wrong = {}
    for seed in range(10_000):
        story = Story(seed, losses=True, faults=True)
        if found := story.wrong + story.wrong_of_bots:
            wrong[seed] = found
    assert {} == wrong
