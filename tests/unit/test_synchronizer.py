"""The view follows the engine: nothing is missed, nothing goes back, and nothing is believed that may not be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container_manager.engine.container_source import owned_bot
from container_manager.engine.spec import container_name
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerState, ContainerStatus, HealthStatus
from tests.support.fake_source import HANG, LOST, FakeSource, Fault, Id, Kept
from tests.support.virtual_loop import now, run, virtual
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
    """A start that failed: its event does not say whose container it is about."""
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


# Random changes of an engine, told late, inspected slowly.

BOTS = (Id(BOT), Id(OTHER_BOT))


class Story:
    """What happens to one engine and the view of it in one interleaving, and what was wrong with that."""

    def __init__(self, seed: int, *, losses: bool = False, faults: bool = False) -> None:
        self.wrong: list[str] = []
        self.wrong_of_bots: list[str] = []
        self._draw = draw = Random(seed)
        self._losses, self._faults = losses, faults
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
            # Longer than any delay before the next look or try.
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
            if (entry and entry.status) != source.of_bot(bot_id):
                self.wrong_of_bots.append(f"at quiet {entry} was shown for {source.of_bot(bot_id)}")

    def _change(self) -> None:
        """By somebody else."""
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

    async def _audit(self) -> None:
        while True:
            await self._kept.audit.check()

    async def _operate(self) -> None:
        """Operations of our own, each of which has to be seen when it is over."""
        draw, source, view = self._draw, self._source, self._kept.view
        for _ in range(5):
            await asyncio.sleep(draw.random() * 0.2)
            bot_id = draw.choice(BOTS)
            status = source.of_bot(bot_id)
            if status is None:
                if container_name(bot_id) not in {each.name for each in source.containers.values()}:
                    source.create(bot_id)
            elif draw.random() < 0.6:
                source.change(status.container_id, state=draw.choice((RUNNING, EXITED)))
            else:
                source.remove(status.container_id)
            ended = source.serial
            self._kept.refresher.touch(bot_id)
            await self._kept.refresher.settled_bot(bot_id)
            entry = view.of_bot(bot_id)
            if view.answers_for(bot_id) and (entry and entry.status) not in self._since(bot_id, ended):
                self.wrong_of_bots.append(f"after an operation that ended at {ended}, {entry} was shown")

    def _since(self, bot_id: str, serial: int) -> Iterator[ContainerStatus | None]:
        """All that the bot's container has been since a state of the engine."""
        there: dict[str, ContainerStatus | None] = {}
        for number, (key, status) in enumerate(self._source.history):
            there[key] = status
            if number >= serial:
                yield next((each for each in there.values() if each and owned_bot(each) == bot_id), None)


many = settings(max_examples=100, derandomize=True)
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


@pytest.mark.slow
def test_ten_thousand_random_stories_go_well() -> None:
    wrong = {}
    for seed in range(10_000):
        story = Story(seed, losses=True, faults=True)
        if story.wrong:
            wrong[seed] = story.wrong
    assert {} == wrong
