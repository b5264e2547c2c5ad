"""Following a bot's log on a swarm: across restarts, nodes that are lost, and managers that are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from container_manager.errors import EngineTimeoutError, NodeUnavailableError
from container_manager.logs.cursor import position_of
from container_manager.logs.existing import LogOptions
from container_manager.logs.reader import LogReader
from container_manager.model import LogEntry
from container_manager.view.container_versions import ContainerVersions
from container_manager.view.keeper import ViewKeeper
from tests.support.virtual_loop import run
from tests.unit.swarm_logs import Bot, entries_of, lines, lose, texts


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
            lose(bot.swarm, "node1", lost)
            bot.swarm.logs[old] += lines(2, 1)
            await asyncio.sleep(10)
            assert not follower.task.done()
            bot.swarm.set_node("node1", "down")
            bot.run("node3", lines(3, count))
            expected = texts([*lines(0, 2), *lines(3, count)])
            await follower.has(*expected, seconds=20)
            assert [2] == [at for at, entry in enumerate(follower.received) if entry.gap]
            lose(bot.swarm, "node1", "")
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
            await asyncio.wait_for(entries_of(bot.log.follow()), 10)

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
