"""A swarm's manager as the view reads it, by polling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from container_manager.backend import Notice
from container_manager.backends.swarm.source import BUSY_SECONDS, QUIET_SECONDS, SwarmSource
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.view.keeper import ViewKeeper
from tests.support.scripted_swarm import LISTS, ScriptedSwarm, rejected
from tests.support.virtual_loop import run

BOT = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
OTHER = "16fd2706-8baf-433b-82eb-8c7fada847da"
AWAY = EngineUnavailableError("away")


class Following:
    """A subscription, and the notices that have come from it."""

    def __init__(self, swarm: ScriptedSwarm, source: SwarmSource) -> None:
        self.swarm, self.source = swarm, source
        self.told: list[Notice] = []
        self.lost: Exception | None = None

    async def news(self) -> list[Notice]:
        """The notices of the next second."""
        self.told.clear()
        await asyncio.sleep(QUIET_SECONDS + 0.01)
        # The time of a notice has a test of its own.
        return [notice._replace(time_ns=0) for notice in self.told]

    async def follow(self, notices: AsyncIterator[Notice]) -> None:
        try:
            async for notice in notices:
                self.told.append(notice)
        except EngineUnavailableError as exc:
            self.lost = exc


@asynccontextmanager
async def following(swarm: ScriptedSwarm, source: SwarmSource | None = None) -> AsyncIterator[Following]:
    followed = Following(swarm, source or SwarmSource(swarm))  # type: ignore[arg-type]
    async with followed.source.subscribe() as notices:
        task = asyncio.create_task(followed.follow(notices))
        yield followed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def changed(key: str, **fields: bool) -> Notice:
    return Notice(key, gone=False, managed=True)._replace(**fields)


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


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the clock is virtual
            await asyncio.sleep(0.05)


def test_the_view_shows_what_others_change_and_what_a_dead_node_does_within_a_second() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        key = swarm.add(BOT)
        task = swarm.run(key)
        async with _kept(swarm) as keeper:
            entry = keeper.view.of_bot(BOT)
            assert entry is not None
            assert (ContainerState.RUNNING, "machine-1") == (entry.status.state, entry.status.node)

            def shown() -> ContainerStatus | None:
                entry = keeper.view.of_bot(BOT)
                return entry and entry.status

            swarm.set_node("node1", "down")
            await _until(lambda: shown() == replace(entry.status, node_unreachable=True), 1.3)
            swarm.set_node("node1", "ready")
            await _until(lambda: shown() == entry.status, 1.3)
            swarm.set(task, "failed", Err="task: non-zero exit (3)")
            await _until(lambda: (now := shown()) is not None and now.state is ContainerState.RESTARTING, 1.3)
            swarm.remove(key)
            await _until(lambda: shown() is None, 1.3)

    run(main())


def test_the_view_is_lost_with_the_manager_and_regained_without_inspecting_what_has_not_changed() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        keys = [swarm.add(f"{number:08x}{BOT[8:]}") for number in range(50)]
        tasks = [swarm.run(key) for key in keys]
        async with _kept(swarm) as keeper:
            await asyncio.sleep(100)
            keeper.engine_answers(answers=True)
            swarm.fault = EngineTimeoutError("no leader")
            await _until(lambda: not keeper.view.in_sync, 1.3)
            swarm.set(tasks[7], "failed")
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(10)
            swarm.fault = None
            await _until(lambda: keeper.view.in_sync, 2)
            entry = keeper.view.get(keys[7])
            assert entry is not None
            assert ContainerState.RESTARTING is entry.status.state
            inspected = {path for at, path in swarm.requests if at > began and path.startswith("/services/")}
            assert {f"/services/{keys[7]}"} == inspected

    run(main())


def test_two_views_of_one_swarm_agree() -> None:
    async def main() -> None:
        swarm = ScriptedSwarm()
        keys = [swarm.add(f"{number:08x}{BOT[8:]}") for number in range(5)]
        async with _kept(swarm) as one, _kept(swarm) as two:
            swarm.run(keys[0])
            swarm.remove(keys[1])
            swarm.run(swarm.add(OTHER), "preparing", "node2")
            await asyncio.sleep(2)
            shown = [[entry.status for entry in keeper.view.entries()] for keeper in (one, two)]
            assert shown[0] == shown[1]
            assert [row.status for row in await SwarmSource(swarm).list()] == sorted(  # type: ignore[arg-type]
                shown[0], key=lambda status: list(swarm.services).index(status.container_id)
            )
            assert 0 == await one.audit.check() == await two.audit.check()

    run(main())


@asynccontextmanager
async def _kept(swarm: ScriptedSwarm) -> AsyncIterator[ViewKeeper]:
    """A view in sync."""
    keeper = ViewKeeper(SwarmSource(swarm), lambda status: json.dumps(str(status)).encode())  # type: ignore[arg-type]
    keeper.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_closed(keeper))
        await keeper.in_sync()
        yield keeper


def _closed(keeper: ViewKeeper) -> Callable[[], Awaitable[None]]:
    return keeper.close
