"""The log of a task from the engine of its node, and where that has none, from the manager."""

from __future__ import annotations

import asyncio
import struct
from contextlib import nullcontext

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.backends.swarm import task_log
from container_manager.backends.swarm.task_log import LogEngines, TaskLog
from container_manager.errors import ContainerManagerError, InvalidStateError, NodeUnavailableError
from tests.support.fake_engine import Cut, FakeEngine, Hang, Json, Raw, error
from tests.support.swarm_services import clients
from tests.support.virtual_loop import run
from tests.unit.log_engine import frame
from tests.unit.swarm_logs import Bot, entries_of, lines, read


def own_log(engine: FakeEngine, task: str, answer: Raw | Hang | Json) -> None:
    """Have a node's own engine answer so to a request for a task's log."""
    engine.on("GET", f"/containers/c-{task}/json", Json({}))
    engine.on("GET", f"/containers/c-{task}/logs", answer)


def test_a_log_comes_from_the_engine_of_its_node_where_that_is_named() -> None:
    """A manager may get none from a node that has connected to it anew."""

    async def main() -> None:
        with FakeEngine() as engine:
            bot = Bot()
            bot.run("node1", lines(0, 1))
            newest = bot.run("node2", lines(1, 2))
            bot.swarm.late.add("node2")
            own_log(engine, newest, Raw(b"".join(map(frame, bot.swarm.logs[newest]))))
            async with clients({"machine-2": engine.url}) as engines:
                bot.engines |= engines
                assert lines(0, 3) == await read(bot.log)
                assert lines(1, 2) == await entries_of(bot.log.follow(2))

    asyncio.run(main())


@pytest.mark.parametrize("engine_is", ["away", "silent", "of another node", "refusing"])
def test_a_log_comes_from_the_manager_if_the_named_engine_does_not_have_it(
    engine_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_log, "_ASK_SECONDS", 0.1)
    answers = {"silent": Hang(), "of another node": error(404, "No such container"), "refusing": error(403, "no")}

    async def main() -> None:
        with FakeEngine() as engine:
            bot = Bot()
            bot.run("node2", lines(0, 2))
            if engine_is in answers:
                engine.on("GET", "/containers/*/json", answers[engine_is])
            async with clients({"node2": "unix:///nowhere" if engine_is == "away" else engine.url}) as engines:
                bot.engines |= engines
                for _ in range(3):
                    assert lines(0, 2) == await read(bot.log)
                    assert lines(1, 1) == await read(bot.log, 1)
                # One that does not answer is not asked again at once.
                assert engine_is != "silent" or 1 == len(engine.seen("GET", "/containers/*/json"))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (Cut(), NodeUnavailableError),
        (error(409, "can not get logs from container which is dead or marked for removal"), None),
        (error(404, "No such container"), None),
        (error(501, "configured logging driver does not support reading"), InvalidStateError),
        (Raw(struct.pack(">BxxxL", 3, 7) + b"damaged"), LogUnreadableError),
    ],
    ids=["broken", "dead", "removed", "no log", "damaged"],
)
def test_what_a_nodes_own_engine_says_of_a_log_is_told(
    answer: Raw | Cut | Json, raised: type[ContainerManagerError] | None
) -> None:
    """``None``: the swarm has forgotten the task, and its log has no entries."""

    async def main() -> None:
        with FakeEngine() as engine:
            bot = Bot()
            own_log(engine, bot.run("node2", lines(0, 1)), answer)
            async with clients({"node2": engine.url}) as engines:
                bot.engines |= engines
                for reading in (bot.log.existing, bot.log.follow):
                    with pytest.raises(raised) if raised else nullcontext():
                        assert [] == await entries_of(reading())

    asyncio.run(main())


def test_following_a_busy_log_through_a_nodes_own_engine_ends_when_the_node_is_down() -> None:
    """Its bot goes on elsewhere, and status shows that copy."""

    class Busy:
        async def read(self) -> bytes:
            await asyncio.sleep(0.01)
            return b"x"

    async def main() -> None:
        bot = Bot()
        task = bot.run("node2")
        await bot.source.list()
        log = TaskLog(bot.swarm, bot.source, bot.swarm.tasks[task], "machine-2", LogEngines({}))  # type: ignore[arg-type]
        stream = task_log._UntilEnd(Busy(), log, asyncio.get_running_loop().time())
        await bot.source.list()
        assert b"x" == await stream.read()
        bot.swarm.set_node("node2", "down")
        await bot.source.list()
        assert b"" == await stream.read()

    run(main())
