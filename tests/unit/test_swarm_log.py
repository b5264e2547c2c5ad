"""A bot's log on a swarm: those of its tasks, one after another."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext

import pytest

from container_manager.backend_logs import LogUnreadableError
from container_manager.backends.swarm import task_log
from container_manager.backends.swarm.service_log import ServiceLog
from container_manager.backends.swarm.source import SwarmSource
from container_manager.backends.swarm.task_log import SILENCE_SECONDS, LogEngines, TaskLog
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineTimeoutError,
    InvalidStateError,
    NodeUnavailableError,
)
from container_manager.logs.cursor import position_of
from container_manager.logs.existing import LogOptions
from container_manager.logs.reader import LogReader
from container_manager.model import LogEntry, LogSource, RawEntry
from container_manager.view.container_versions import ContainerVersions
from container_manager.view.keeper import ViewKeeper
from tests.support.fake_engine import Cut, FakeEngine, Hang, Json, Raw, error
from tests.support.scripted_swarm import ScriptedSwarm
from tests.support.swarm_services import clients
from tests.support.virtual_loop import run
from tests.unit.log_engine import frame, last_of, raw

BOT = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
SECOND = 1_000_000_000


def lines(first: int, count: int) -> list[RawEntry]:
    return [raw(number * SECOND, f"line {number}".encode()) for number in range(first, first + count)]


def texts(entries: Sequence[LogEntry | RawEntry]) -> list[str]:
    return [entry[2].decode() for entry in entries]


async def read(log: ServiceLog, tail: int | None = None) -> list[RawEntry]:
    return await _entries(log.existing(tail))


async def _entries(batches: AsyncIterator[list[RawEntry]]) -> list[RawEntry]:
    return [entry async for batch in batches for entry in batch]


class Bot:
    """A bot with a log."""

    def __init__(self) -> None:
        self.swarm = ScriptedSwarm()
        self.key = self.swarm.add(BOT)
        self.source = SwarmSource(self.swarm)  # type: ignore[arg-type]
        self.engines: dict[str, AsyncEngineClient] = {}
        """Those of nodes that are named."""
        self.log = self.new_log()
        self.tasks: list[str] = []

    def new_log(self) -> ServiceLog:
        return ServiceLog(self.swarm, self.source, self.key, LogEngines(self.engines))  # type: ignore[arg-type]

    def run(self, node: str = "node1", entries: Sequence[RawEntry] = ()) -> str:
        """Another run; the one before has ended."""
        for task in self.tasks:
            if self.swarm.node_of(task) not in self.swarm.silent:
                self.swarm.set(task, "failed", Err="task: non-zero exit (1)")
        task = self.swarm.run(self.key, node=node)
        self.swarm.logs[task] += entries
        self.tasks.append(task)
        return task


@asynccontextmanager
async def followed(bot: Bot) -> AsyncIterator[ContainerVersions]:
    """The versions of a view that follows the swarm."""
    keeper = ViewKeeper(bot.source, lambda status: str(status).encode())
    keeper.start()
    try:
        await keeper.in_sync()
        yield ContainerVersions(keeper.view)
    finally:
        await keeper.close()


class Follower:
    """A caller that follows the log."""

    def __init__(self, bot: Bot, versions: ContainerVersions, options: LogOptions | None = None) -> None:
        self.received: list[LogEntry] = []
        reader = LogReader(bot.new_log(), bot.key, options or LogOptions(follow=True), versions)
        self.task = asyncio.create_task(self._follow(reader))

    async def has(self, *expected: str, seconds: float = 5) -> None:
        """Wait until exactly these lines have come, and nothing more for a while."""
        async with asyncio.timeout(seconds):
            while len(self.received) < len(expected) and not self.task.done():  # noqa: ASYNC110 - a virtual clock
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)
        assert list(expected) == texts(self.received)

    async def _follow(self, reader: LogReader) -> None:
        async with aclosing(reader.batches()) as batches:
            async for batch in batches:
                self.received += batch


@pytest.mark.parametrize("counts", [(3,), (0, 2), (2, 0), (1, 300, 2), (2, 1, 0, 0, 3)], ids=str)
def test_a_tail_goes_back_over_as_many_tasks_as_it_needs(counts: Sequence[int]) -> None:
    async def main() -> None:
        bot = Bot()
        first = 0
        for count in counts:
            bot.run(entries=lines(first, count))
            first += count
        whole = lines(0, first)
        assert whole == await read(bot.log)
        for tail in (0, 1, 2, 3, 4, 5, first - 1, first, first + 1):
            assert last_of(whole, tail) == await read(bot.log, tail), tail
        assert bot.log.was_opened

    run(main())


def test_a_tail_is_exact_also_while_the_newest_task_writes_on() -> None:
    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 5))
        newest = bot.run(entries=lines(5, 3))
        async with aclosing(bot.log.existing(6)) as batches:
            entries = await anext(batches)
            await bot.swarm.write(newest, *lines(8, 2))
            entries += [entry async for batch in batches for entry in batch]
        assert lines(2, 6) == entries

    run(main())


def test_a_newest_task_that_had_written_nothing_adds_no_empty_batch_when_it_writes() -> None:
    """An empty batch ended followers."""

    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 5))
        newest = bot.run()
        async with aclosing(bot.log.existing(6)) as batches:
            read_on = [await anext(batches)]
            await bot.swarm.write(newest, *lines(5, 2))
            read_on += [batch async for batch in batches]
        assert lines(0, 5) == [entry for batch in read_on for entry in batch]
        assert all(read_on)

    run(main())


def test_one_task_costs_one_request_for_a_log() -> None:
    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 9))
        await read(bot.log, 5)
        assert 1 == len(bot.swarm.streams)

    run(main())


def test_tasks_without_a_container_and_those_that_are_forgotten_have_no_entries() -> None:
    async def main() -> None:
        bot = Bot()
        assert ([], False) == (await read(bot.log), await bot.log.runs())
        old = bot.run(entries=lines(0, 2))
        assert await bot.log.runs()
        bot.run(entries=lines(2, 2))
        bot.swarm.run(bot.key, "pending", node="")
        assert not await bot.log.runs()
        assert lines(0, 4) == await read(bot.log)
        async with aclosing(bot.log.existing()) as batches:
            read_on = [*await anext(batches)]
            assert lines(0, 2) == read_on
        del bot.swarm.tasks[old]
        assert lines(2, 2) == await read(bot.log)

    run(main())


def test_the_log_of_a_bot_that_is_gone_is_not_found() -> None:
    async def main() -> None:
        bot = Bot()
        task = bot.run(entries=lines(0, 2))
        bot.swarm.remove(bot.key, tasks=False)
        assert lines(0, 2) == await read(bot.log)
        del bot.swarm.tasks[task]
        for call in (read(bot.log), bot.log.runs()):
            with pytest.raises(ContainerNotFoundError):
                await call

    run(main())


@pytest.mark.parametrize("lost", ["silent", "down"])
@pytest.mark.parametrize("tail", [None, 10])
def test_a_log_begins_behind_the_task_whose_node_is_lost(lost: str, tail: int | None) -> None:
    async def main() -> None:
        bot = Bot()
        bot.run("node2", lines(0, 2))
        bot.run("node1", lines(2, 2))
        bot.run("node2", lines(4, 2))
        _lose(bot.swarm, "node1", lost)
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            assert lines(4, 2) == await read(bot.log, tail)
        assert asyncio.get_running_loop().time() - began <= SILENCE_SECONDS
        _lose(bot.swarm, "node2", lost)
        _lose(bot.swarm, "node1", "")
        began = asyncio.get_running_loop().time()
        with pytest.raises(NodeUnavailableError, match="machine-2") as caught:
            await read(bot.log, tail)
        assert {"node": "machine-2"} == caught.value.metadata
        assert asyncio.get_running_loop().time() - began <= SILENCE_SECONDS

    run(main())


def test_a_node_that_is_lost_while_it_is_asked_is_named() -> None:
    """The manager says so at once, before it takes the node for down."""

    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 2))
        await bot.source.list()
        bot.swarm.set_node("node1", "down")
        with pytest.raises(NodeUnavailableError, match="machine-1"):
            await read(bot.log)

    run(main())


def test_a_follower_receives_each_line_once_across_restarts_and_nodes() -> None:
    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 2))
        async with followed(bot) as versions:
            follower = Follower(bot, versions)
            await follower.has(*texts(lines(0, 2)))
            await bot.swarm.write(bot.tasks[-1], *lines(2, 2))
            await follower.has(*texts(lines(0, 4)))
            await bot.swarm.write(bot.tasks[-1], *lines(4, 2))
            bot.run("node2", lines(6, 1))
            await follower.has(*texts(lines(0, 7)))
            await bot.swarm.write(bot.tasks[-1], *lines(7, 200))
            await follower.has(*texts(lines(0, 207)))
            for number in range(3):
                bot.run("node3", lines(207 + number, 1))
                await follower.has(*texts(lines(0, 208 + number)))
            assert not any(entry.gap for entry in follower.received)
            bot.swarm.remove(bot.key)
            await follower.has(*texts(lines(0, 210)))
            assert follower.task.done()

    run(main())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("lost", ["silent", "down"])
def test_a_follower_goes_on_behind_a_lost_node_with_a_gap_and_gets_nothing_twice(lost: str, count: int) -> None:
    """Also when the node is back, so that its lines are in the log again."""

    async def main() -> None:
        bot = Bot()
        bot.run("node2", lines(0, 1))
        old = bot.run("node1", lines(1, 1))
        async with followed(bot) as versions:
            follower = Follower(bot, versions)
            await follower.has(*texts(lines(0, 2)))
            _lose(bot.swarm, "node1", lost)
            bot.swarm.logs[old] += lines(2, 1)
            await asyncio.sleep(10)
            assert not follower.task.done()
            bot.swarm.set_node("node1", "down")
            bot.run("node3", lines(3, count))
            expected = texts([*lines(0, 2), *lines(3, count)])
            await follower.has(*expected, seconds=20)
            assert [2] == [at for at, entry in enumerate(follower.received) if entry.gap]
            _lose(bot.swarm, "node1", "")
            bot.swarm.set(old, "shutdown")
            await follower.has(*expected)
            await bot.swarm.write(bot.tasks[-1], *lines(10, 1))
            await follower.has(*expected, "line 10")
            bot.run("node3", lines(11, 1))
            await follower.has(*expected, "line 10", "line 11")
            assert [2] == [at for at, entry in enumerate(follower.received) if entry.gap]
            # A reader that comes back has all that is there.
            later = Follower(
                bot, versions, LogOptions(follow=True, after=position_of(follower.received[2].cursor.decode()))
            )
            await later.has(*expected[3:], "line 10", "line 11")

    run(main())


def test_following_ends_soon_on_a_node_that_sends_no_log_yet() -> None:
    """A swarm leaves a request unanswered for ever that comes before the node has asked for such requests."""

    async def main() -> None:
        bot = Bot()
        bot.run("node1", lines(0, 1))
        bot.swarm.late.add("node1")
        with pytest.raises(NodeUnavailableError, match="machine-1"):
            await asyncio.wait_for(_entries(bot.log.follow()), 10)

    run(main())


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
                assert lines(1, 2) == await _entries(bot.log.follow(2))

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
                        assert [] == await _entries(reading())

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


def test_a_follower_waits_for_a_pinned_bots_node_and_misses_nothing() -> None:
    async def main() -> None:
        bot = Bot()
        old = bot.run("node1", lines(0, 3))
        async with followed(bot) as versions:
            follower = Follower(bot, versions)
            await follower.has(*texts(lines(0, 3)))
            bot.swarm.set_node("node1", "down")
            bot.swarm.logs[old] += lines(3, 1)
            await asyncio.sleep(60)
            bot.swarm.set_node("node1", "ready")
            bot.run("node1", lines(4, 1))
            await follower.has(*texts(lines(0, 5)))
            assert not any(entry.gap for entry in follower.received)

    run(main())


def test_a_follower_outlives_a_manager_that_is_away() -> None:
    async def main() -> None:
        bot = Bot()
        task = bot.run(entries=lines(0, 1))
        async with followed(bot) as versions:
            follower = Follower(bot, versions)
            await follower.has("line 0")
            bot.swarm.fault = EngineTimeoutError("no leader")
            await asyncio.sleep(30)
            bot.swarm.logs[task] += lines(1, 1)
            bot.swarm.fault = None
            await follower.has("line 0", "line 1")

    run(main())


def test_a_quiet_follower_costs_the_manager_next_to_nothing() -> None:
    async def main() -> None:
        bot = Bot()
        bot.run(entries=lines(0, 1))
        async with followed(bot) as versions:
            follower = Follower(bot, versions)
            await follower.has("line 0")
            before = len(bot.swarm.streams)
            await asyncio.sleep(600)
            assert len(bot.swarm.streams) - before <= 30

    run(main())


def test_both_outputs_and_partial_lines_are_as_the_task_wrote_them() -> None:
    async def main() -> None:
        bot = Bot()
        entries = [raw(1, b"out"), raw(1, b"err", LogSource.STDERR), raw(2, b"half", partial=True), raw(2, b"")]
        bot.run(entries=entries)
        assert entries == await read(bot.log)

    run(main())


def _lose(swarm: ScriptedSwarm, node: str, how: str) -> None:
    swarm.silent -= {node}
    swarm.silent |= {node} if how == "silent" else set()
    swarm.set_node(node, "down" if how == "down" else "ready")
