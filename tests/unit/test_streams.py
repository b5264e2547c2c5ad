"""Slots for streams: a limited number of each kind, freed however a stream ends."""

from __future__ import annotations

import asyncio

import pytest

from container_manager.errors import CapacityExceededError, ShuttingDownError
from container_manager.rpc.stream_kinds import LOGS, STATS
from container_manager.scheduling.streams import Streams


def make() -> Streams:
    return Streams({LOGS: 1, STATS: 1})


def test_one_more_than_the_limit_is_refused_and_other_kinds_are_not() -> None:
    async def scenario() -> None:
        streams = make()
        async with streams.open(LOGS), streams.open(STATS):
            with pytest.raises(CapacityExceededError, match="1 log streams already"):
                async with streams.open(LOGS):
                    raise AssertionError("it was let in")
        assert (0, 0) == (streams.count(LOGS), streams.count(STATS))
        async with streams.open(LOGS):
            assert 1 == streams.count(LOGS)

    asyncio.run(scenario())


@pytest.mark.parametrize("end", [RuntimeError, TimeoutError, asyncio.CancelledError])
def test_a_place_is_given_back_however_the_stream_ends(end: type[BaseException]) -> None:
    async def scenario() -> None:
        streams = make()
        with pytest.raises(end):
            async with streams.open(LOGS):
                raise end
        assert 0 == streams.count(LOGS)

    asyncio.run(scenario())


def test_close_ends_a_stream_that_waits_and_refuses_the_next() -> None:
    async def scenario() -> None:
        streams = make()

        async def stream() -> None:
            async with streams.open(LOGS):
                await asyncio.Event().wait()

        waiting = asyncio.create_task(stream())
        await asyncio.sleep(0)
        assert 1 == streams.count(LOGS)
        streams.close()
        for each in (waiting, stream()):
            with pytest.raises(ShuttingDownError):
                await each
        assert 0 == streams.count(LOGS)

    asyncio.run(scenario())


def test_a_callers_cancellation_is_no_shutdown() -> None:
    async def scenario() -> None:
        streams = make()

        async def stream() -> None:
            async with streams.open(LOGS):
                await asyncio.Event().wait()

        waiting = asyncio.create_task(stream())
        await asyncio.sleep(0)
        assert 1 == streams.count(LOGS)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
