"""A bot's log on a swarm: those of its tasks, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from container_manager.backends.swarm.task_log import SILENCE_SECONDS
from container_manager.errors import ContainerNotFoundError, NodeUnavailableError
from container_manager.model import LogSource
from tests.support.virtual_loop import run
from tests.unit.log_engine import last_of, raw
from tests.unit.swarm_logs import Bot, lines, lose, read


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
        lose(bot.swarm, "node1", lost)
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            assert lines(4, 2) == await read(bot.log, tail)
        assert asyncio.get_running_loop().time() - began <= SILENCE_SECONDS
        lose(bot.swarm, "node2", lost)
        lose(bot.swarm, "node1", "")
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


def test_both_outputs_and_partial_lines_are_as_the_task_wrote_them() -> None:
    async def main() -> None:
        bot = Bot()
        entries = [raw(1, b"out"), raw(1, b"err", LogSource.STDERR), raw(2, b"half", partial=True), raw(2, b"")]
        bot.run(entries=entries)
        assert entries == await read(bot.log)

    run(main())
