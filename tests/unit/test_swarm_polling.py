"""The polls of a swarm's manager: how often, what each costs, and that none that fails loses a change."""

from __future__ import annotations

import asyncio

import pytest

from container_manager.backends.swarm.source import BUSY_SECONDS, QUIET_SECONDS, SwarmSource
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from tests.support.scripted_swarm import LISTS, ScriptedSwarm, rejected
from tests.support.virtual_loop import run
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_subscription import changed, following

AWAY = EngineUnavailableError("away")


def test_nothing_is_decoded_while_nothing_changes_and_one_document_when_one_does() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        tasks = [swarm.run(swarm.add(f"{number:08x}{BOT[8:]}")) for number in range(100)]
        async with following(swarm) as followed:
            seen = followed.source.snapshot
            assert (100, 100, 3) == (seen.services.decoded, seen.tasks.decoded, seen.nodes.decoded)
            for _ in range(10):
                await followed.news()
            swarm.set(tasks[50], "failed")
            await followed.news()
            assert (100, 101, 3) == (seen.services.decoded, seen.tasks.decoded, seen.nodes.decoded)

    run(main())


def test_it_polls_four_times_a_second_while_something_changes_and_once_a_second_else() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)

        def polls(since: float) -> int:
            return len([at for at in swarm.asked("/tasks") if at > since])

        now = asyncio.get_running_loop().time
        async with following(swarm):
            await asyncio.sleep(5.5)
            began = now()
            await asyncio.sleep(10)
            assert 10 == polls(began)
            for _ in range(10):
                swarm.update(key)
                await asyncio.sleep(QUIET_SECONDS)
            assert 30 < polls(began) - 10 <= 10 / BUSY_SECONDS
            await asyncio.sleep(5.5)
            began = now()
            await asyncio.sleep(10)
            assert 10 == polls(began)

    run(main())


def test_a_slow_manager_is_asked_no_more_than_half_of_the_time() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        swarm.seconds = 0.5
        key = swarm.add(BOT)
        async with following(swarm):
            for _ in range(30):
                swarm.update(key)
                await asyncio.sleep(1)
            # A poll takes 1.5 s.
            assert len(swarm.asked("/tasks")) <= 13

    run(main())


@pytest.mark.parametrize("fault", [AWAY, EngineTimeoutError("hangs"), rejected()], ids=["away", "hangs", "no manager"])
def test_a_manager_that_does_not_answer_ends_the_notices_and_nothing_is_missed(fault: Exception) -> None:
    """Such as one that lost its leader, or left the swarm."""

    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        source = SwarmSource(swarm)  # type: ignore[arg-type]
        async with source.subscribe() as notices:
            swarm.fault = fault
            with pytest.raises((EngineUnavailableError, EngineTimeoutError)):
                await anext(notices)
            with pytest.raises((EngineUnavailableError, EngineTimeoutError)):
                await source.list()
        with pytest.raises((EngineUnavailableError, EngineTimeoutError)):
            async with source.subscribe():
                pass
        swarm.update(key)
        swarm.fault = None
        async with following(swarm, source) as followed:
            assert [changed(key)] == await followed.news()

    run(main())


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("answer", [b"<html>", b'{"ID":"x"}', b'[{"ID":"x"},{"Name":"y"}]', b"[1]"])
def test_an_answer_that_is_not_understood_is_that_of_a_manager_that_is_away(path: str, answer: bytes) -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        swarm.run(key)
        async with following(swarm) as followed:
            await asyncio.sleep(100)
            swarm.spoiled[path] = answer
            swarm.update(key)
            await followed.news()
            assert isinstance(followed.lost, EngineUnavailableError)
        swarm.spoiled.clear()
        async with following(swarm, followed.source):
            (row,) = await followed.source.list()
            assert (key, 0) == (row.status.container_id, row.running_seconds), "a change was lost"

    run(main())


def test_a_poll_that_is_given_up_half_way_loses_no_notice() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        keys = [swarm.add(f"{number:08x}{BOT[8:]}") for number in range(100)]
        source = SwarmSource(swarm)  # type: ignore[arg-type]
        async with source.subscribe():
            pass
        for key in keys:
            swarm.update(key)
        for steps in range(8):
            poll = asyncio.create_task(source.list())
            for _ in range(steps):
                await asyncio.sleep(0)
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
            assert 100 == source.snapshot.services.decoded, "the poll was not given up in time"
        async with following(swarm, source) as followed:
            assert [changed(key) for key in keys] == await followed.news()

    run(main())
