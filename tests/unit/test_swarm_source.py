"""What the view reads of a swarm: a notice of each change of a bot, and the rows of its list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from container_manager.backends.swarm.source import SwarmSource
from container_manager.model import ContainerState
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.virtual_loop import run
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_subscription import OTHER, changed, following


def test_what_was_there_before_is_left_to_the_list() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        swarm.run(swarm.add(BOT))
        async with following(swarm) as followed:
            assert [] == await followed.news()

    run(main())


CHANGES: Mapping[str, Callable[[ScriptedSwarm, str, str], object]] = {
    "a task": lambda swarm, _, task: swarm.set(task, "failed"),
    "a service": lambda swarm, key, _: swarm.update(key),
    "a new task": lambda swarm, key, _: swarm.run(key, "new"),
    "a task gone": lambda swarm, _, task: swarm.tasks.pop(task),
    "a node": lambda swarm, *_: swarm.set_node("node1", "down"),
    "a service gone with a task left": lambda swarm, key, _: swarm.remove(key, tasks=False),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_of_a_bot_gives_one_notice_of_it_within_a_second(what: str) -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key, other = swarm.add(BOT), swarm.add(OTHER)
        task, _ = swarm.run(key), swarm.run(other, node="node2")
        async with following(swarm) as followed:
            CHANGES[what](swarm, key, task)
            assert [changed(key)] == await followed.news()
            assert [] == await followed.news()

    run(main())


def test_a_node_that_is_down_gives_a_notice_of_a_bot_that_waits_for_it() -> None:
    """A bot whose state is on the node has no task there after a while."""

    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT, hosted="node3")
        swarm.add(OTHER)
        async with following(swarm) as followed:
            swarm.set_node("node3", "down")
            assert [changed(key)] == await followed.news()
            status = await followed.source.inspect(key)
            assert status is not None
            assert ("machine-3", True) == (status.node, status.node_unreachable)

    run(main())


def test_a_new_bot_is_created_unless_something_else_has_happened_to_it() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        async with following(swarm) as followed:
            key = swarm.add(BOT)
            assert [changed(key, created=True)] == await followed.news()
            key = swarm.add(OTHER)
            swarm.run(key, "new")
            # As one that was made by hand, with a replica.
            swarm.services[key]["UpdatedAt"] = swarm.services[key]["CreatedAt"]
            assert [changed(key)] == await followed.news()

    run(main())


def test_a_bot_is_gone_once_its_last_task_is() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        task = swarm.run(key)
        async with following(swarm) as followed:
            swarm.remove(key, tasks=False)
            await followed.news()
            for status in (
                await followed.source.inspect(key),
                await followed.source.inspect_bot(BOT),
                (await followed.source.list())[0].status,
            ):
                assert status is not None
                assert (ContainerState.REMOVING, BOT, key) == (status.state, status.bot_id, status.container_id)
            del swarm.tasks[task]
            assert [changed(key, gone=True)] == await followed.news()
            assert (None, None, []) == (
                await followed.source.inspect(key),
                await followed.source.inspect_bot(BOT),
                await followed.source.list(),
            )

    run(main())


def test_a_notice_has_the_managers_time_of_the_change() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        async with following(swarm) as followed:
            swarm.services[key]["UpdatedAt"] = "1970-01-01T00:00:05.000000007Z"
            await followed.news()
            assert [5_000_000_007] == [notice.time_ns for notice in followed.told]

    run(main())


def test_a_list_tells_the_subscribers_too_what_has_changed() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        source = SwarmSource(swarm)  # type: ignore[arg-type]
        async with following(swarm, source) as one, following(swarm, source) as two:
            swarm.update(key)
            await source.list()
            assert ([changed(key)], [changed(key)]) == tuple(await asyncio.gather(one.news(), two.news()))

    run(main())


def test_a_list_row_has_the_inspected_status_and_how_long_nothing_has_changed() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        swarm.add(OTHER)
        task = swarm.run(key)
        async with following(swarm) as followed:
            await asyncio.sleep(100)
            row, other = await followed.source.list()
            assert (row.status, row.health, row.ports) == (await followed.source.inspect(key), None, ())
            assert 99 < row.running_seconds <= 100
            assert 0 == other.running_seconds
            for change in (lambda: swarm.set(task, "running"), lambda: swarm.set_node("node1", "down")):
                change()
                row, _ = await followed.source.list()
                assert 0 == row.running_seconds
                await asyncio.sleep(100)

    run(main())


def test_services_that_are_not_bots_containers_are_not_seen() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        foreign, odd = swarm.add(BOT), swarm.add(OTHER)
        swarm.update(foreign, Labels={"botmaker.bot-id": BOT})
        spec = swarm.services[odd]["Spec"]
        swarm.update(odd, TaskTemplate={"PluginSpec": {}, "Runtime": "plugin"})
        async with following(swarm) as followed:
            assert [] == await followed.source.list()
            for key in (foreign, odd, "none"):
                assert None is await followed.source.inspect(key)
            assert (None, None) == (await followed.source.inspect_bot(BOT), await followed.source.inspect_bot(OTHER))
            swarm.update(odd, **spec)
            assert 1 == len(await followed.source.list())

    run(main())


def test_a_bots_container_is_the_service_with_its_name_else_the_newest_with_its_label() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        source = SwarmSource(swarm)  # type: ignore[arg-type]
        odd = swarm.add(BOT, Name="by-hand")
        assert await source.inspect(odd) == await source.inspect_bot(BOT)
        own = swarm.add(BOT)
        swarm.add(BOT, Name="by-hand-2")
        status = await source.inspect_bot(BOT)
        assert status is not None
        assert own == status.container_id

    run(main())
