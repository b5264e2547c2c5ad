"""The view of a swarm: what it shows of changes by others and of lost nodes, and without its manager."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from container_manager.backends.swarm.source import SwarmSource
from container_manager.errors import EngineTimeoutError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.view.keeper import ViewKeeper
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.virtual_loop import run
from tests.unit.swarm_documents import BOT
from tests.unit.swarm_subscription import OTHER


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
    try:
        await keeper.in_sync()
        yield keeper
    finally:
        await keeper.close()
