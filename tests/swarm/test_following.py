"""The live view of a real swarm: what others change, what machines do, and managers without a leader."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from container_manager.backends.swarm import records
from container_manager.backends.swarm.manager import REQUEST_TIMEOUT_SECONDS
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.model import ContainerState
from dev.images import TEST_IMAGE, ensure_test_image
from dev.swarm import SwarmBed
from tests.support.swarm_services import Followed, HandMade, followed

# A poll a second, four a second while something changes, and time for a busy machine.
SHOWN_SECONDS = 2.5
SLEEP = ("sleep", "86400")

_log = logging.getLogger(__name__)


@pytest.fixture
def by_hand(session_bed: SwarmBed, swarm_image: str) -> Iterator[HandMade]:
    """Makes services without the service."""
    with HandMade(session_bed.nodes[0].docker_url, swarm_image) as made:
        yield made


def test_the_view_shows_what_is_changed_by_hand_within_a_second_or_so(by_hand: HandMade, session_bed: SwarmBed) -> None:
    async def main() -> None:
        async with followed(session_bed.nodes[0].docker_url) as (view,):
            bot_id, service_id = await asyncio.to_thread(by_hand.create, *SLEEP, node="n2")
            status = await view.shows(bot_id, lambda each: each.state is ContainerState.CREATED, SHOWN_SECONDS)
            assert (service_id, f"botmaker-{bot_id}") == (status.container_id, status.name)
            await asyncio.to_thread(by_hand.start, service_id)
            status = await view.shows(bot_id, lambda each: each.state is ContainerState.RUNNING, SHOWN_SECONDS)
            assert ("n2", False) == (status.node, status.node_unreachable)
            await asyncio.to_thread(by_hand.change, service_id, records.stopped)
            await asyncio.to_thread(_wait_for_no_task, by_hand, service_id)
            await view.shows(bot_id, lambda each: each.state is ContainerState.EXITED, SHOWN_SECONDS)
            assert 0 == await view.keeper.audit.check()
            by_hand.engine.remove_service(service_id)
            await _until(lambda: view.shown(bot_id) is None, SHOWN_SECONDS)

    asyncio.run(main())


def test_nothing_is_decoded_on_a_quiet_swarm(by_hand: HandMade, session_bed: SwarmBed) -> None:
    """A manager gives the same bytes until something changes."""
    by_hand.run(*SLEEP)

    async def main() -> None:
        async with followed(session_bed.nodes[0].docker_url) as (view,):
            snapshot = view.source.snapshot
            await asyncio.sleep(1)
            before = [each.decoded for each in (snapshot.services, snapshot.tasks, snapshot.nodes)]
            polled = snapshot.updated
            await _until(lambda: (snapshot.updated or 0) - (polled or 0) > 3, 10)
            assert before == [each.decoded for each in (snapshot.services, snapshot.tasks, snapshot.nodes)]

    asyncio.run(main())


@pytest.mark.slow
def test_a_node_that_dies_reaches_the_statuses_of_its_bots(by_hand: HandMade, bed: SwarmBed) -> None:
    pinned, _ = by_hand.run(*SLEEP, node="n2")
    floating, service_id = by_hand.create(*SLEEP)
    by_hand.change(service_id, lambda spec: _not_on(spec, "n1"))
    by_hand.start(service_id)
    other = {"n2": "n3", "n3": "n2"}

    async def main() -> None:
        async with followed(bed.nodes[0].docker_url) as (view,):
            status = await view.shows(floating, lambda each: bool(each.node))
            dead = next(node for node in bed.nodes if node.name == status.node)
            dead.power_cut()
            began = time.monotonic()
            moved = await view.shows(
                floating, lambda each: each.node == other[dead.name] and each.state is ContainerState.RUNNING, 30
            )
            _log.info("a bot of a dead node runs again after %.1f s", time.monotonic() - began)
            assert not moved.node_unreachable
            if dead.name == "n2":
                await view.shows(pinned, lambda each: each.node_unreachable and each.node == "n2", SHOWN_SECONDS)
            else:
                next(node for node in bed.nodes if node.name == "n2").power_cut()
                await view.shows(pinned, lambda each: each.node_unreachable and each.node == "n2", 30)
            next(node for node in bed.nodes if node.name == "n2").boot()
            await view.shows(
                pinned, lambda each: not each.node_unreachable and each.state is ContainerState.RUNNING, 30
            )

    asyncio.run(main())


@pytest.fixture(scope="module")
def three_managers(engine_tree: Path | None) -> Iterator[SwarmBed]:
    """A swarm of three managers."""
    with (
        tempfile.TemporaryDirectory(prefix="bed-") as directory,
        SwarmBed(Path(directory), nodes=3, managers=3, tree=engine_tree) as bed,
    ):
        bed.load_image(ensure_test_image(bed.nodes[0].docker_url))
        yield bed


@pytest.mark.slow
def test_views_of_two_managers_agree_through_a_change_of_the_leader(three_managers: SwarmBed) -> None:
    bed = three_managers
    image = f"{bed.registry}/{TEST_IMAGE}"
    leader, second, third = bed.nodes
    with _restored(bed), HandMade(third.docker_url, image) as by_hand:
        bots = [by_hand.run(*SLEEP, node="n3") for _ in range(3)]

        async def main() -> None:
            async with followed(second.docker_url, third.docker_url) as (one, two):
                for bot_id, _ in bots:
                    assert one.shown(bot_id) == two.shown(bot_id)
                began = time.monotonic()
                leader.power_cut()
                await asyncio.to_thread(by_hand.change, bots[0][1], records.stopped)
                for view in (one, two):
                    await view.shows(bots[0][0], lambda each: each.state is ContainerState.EXITED, 60)
                _log.info("both views show a change %.1f s after the leader's end", time.monotonic() - began)
                await _until(lambda: _agree(one, two), 10)

        asyncio.run(main())


@pytest.mark.slow
def test_without_a_quorum_the_view_is_lost_in_time_and_comes_back(three_managers: SwarmBed) -> None:
    """A manager without a leader holds each call for 20 s."""
    bed = three_managers
    first, second, third = bed.nodes

    async def main() -> None:
        async with followed(first.docker_url) as (view,):
            second.cut_link()
            third.cut_link()
            began = time.monotonic()
            await _until(lambda: not view.keeper.view.in_sync, 20)
            _log.info("the view is lost %.1f s after the quorum", time.monotonic() - began)
            began = time.monotonic()
            with pytest.raises((EngineTimeoutError, EngineUnavailableError)):
                await view.source.list()
            assert time.monotonic() - began < REQUEST_TIMEOUT_SECONDS + 1
            second.heal_link()
            third.heal_link()
            began = time.monotonic()
            await _until(lambda: view.keeper.view.in_sync, 60)
            _log.info("the view is back %.1f s after the quorum", time.monotonic() - began)

    with _restored(bed):
        asyncio.run(main())


@contextmanager
def _restored(bed: SwarmBed) -> Iterator[None]:
    try:
        yield
    finally:
        bed.restore()


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the view tells no task
            await asyncio.sleep(0.02)


def _agree(one: Followed, two: Followed) -> bool:
    shown = [[entry.status for entry in view.keeper.view.entries()] for view in (one, two)]
    return shown[0] == shown[1] != []


def _wait_for_no_task(by_hand: HandMade, service_id: str) -> None:
    ends = time.monotonic() + 30
    while by_hand.tasks(service_id):
        assert time.monotonic() < ends
        time.sleep(0.05)


def _not_on(spec: dict[str, object], node: str) -> dict[str, object]:
    template = spec["TaskTemplate"]
    assert isinstance(template, dict)
    return {**spec, "TaskTemplate": {**template, "Placement": {"Constraints": [f"node.hostname!={node}"]}}}
