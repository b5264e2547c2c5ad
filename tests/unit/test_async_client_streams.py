"""Streams on the event loop, over real sockets: they end as the engine ends them, and leave nothing open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from container_manager.engine.async_client import AsyncEngineClient, EngineStream
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Bytes
from tests.unit.speaking_engine import CHUNKED, DOCUMENT, HANG, PATH, chunk, run, script, speaking, stalling, until


async def read_on(stream: EngineStream) -> bytes:
    """Read to the end."""
    read = bytearray()
    while data := await stream.read():
        read += data
    return bytes(read)


async def read_all(client: AsyncEngineClient) -> bytes:
    async with client.stream("/events") as stream:
        return await read_on(stream)


def test_a_stream_is_read_as_it_comes_and_ends_with_nothing() -> None:
    pieces = [bytes([number]) * 1000 for number in range(10)]
    told = threading.Event()

    def send() -> Iterator[bytes]:
        yield CHUNKED + chunk(pieces[0])
        assert told.wait(20)
        yield b"".join(map(chunk, [*pieces[1:], b""]))

    async def test() -> None:
        async with speaking(Bytes(send())) as (engine, client), client.stream("/events", {"since": "1"}) as stream:
            (request,) = engine.seen("GET", "/events")
            assert ("1.41", {"since": "1"}) == (request.version, request.query)
            assert (pieces[0], "application/json") == (await stream.read(), stream.content_type)
            told.set()
            assert b"".join(pieces[1:]) == await read_on(stream)
            assert b"" == await stream.read()

    run(test())


@pytest.mark.parametrize("end", [b"", b"5\r\nab"], ids=["no end", "in a chunk"])
def test_a_cut_stream_yields_what_arrived_then_engine_unavailable_and_the_version_is_read_again(
    end: bytes,
) -> None:
    async def test() -> None:
        async with speaking(Bytes([CHUNKED, chunk(b"abc"), end]), DOCUMENT) as (engine, client):
            async with client.stream("/events") as stream:
                assert b"abc" == (await stream.read())[:3]
                with pytest.raises(EngineUnavailableError):
                    await read_on(stream)
            await client.get_json(PATH)
            assert 2 == len(engine.seen("GET", "/version"))

    run(test())


def test_a_stream_must_start_in_time_and_may_then_be_silent_for_any_time() -> None:
    told = threading.Event()

    def send() -> Iterator[bytes]:
        yield CHUNKED
        assert told.wait(20)
        yield chunk(b"late") + chunk(b"")

    async def test() -> None:
        async with speaking(HANG, timeout_seconds=1) as (engine, client):
            with pytest.raises(EngineTimeoutError):
                await read_all(client)
            script(engine, Bytes(send()))
            asyncio.get_running_loop().call_later(1.5, told.set)
            assert b"late" == await read_all(client)

    run(test())


def test_a_cancelled_read_loses_no_data() -> None:
    told = threading.Event()

    def send() -> Iterator[bytes]:
        yield CHUNKED
        assert told.wait(20)
        yield chunk(b"abc") + chunk(b"")

    async def test() -> None:
        async with speaking(Bytes(send())) as (_, client), client.stream("/events") as stream:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await stream.read()
            told.set()
            assert b"abc" == await stream.read()

    run(test())


@pytest.mark.parametrize("how", ["left", "failed", "closed"])
def test_leaving_a_stream_closes_its_connection(how: str) -> None:
    async def test() -> None:
        async with speaking(stalling(CHUNKED, chunk(b"abc"))) as (engine, client):
            try:
                async with client.stream("/events") as stream:
                    assert b"abc" == await stream.read()
                    if how == "closed":
                        await client.close()
                        await until(lambda: engine.open == 0)
                    assert how != "failed"
            except AssertionError:
                assert how == "failed"
            await until(lambda: engine.open == 0)

    run(test())


def test_unread_data_stays_at_the_engine() -> None:
    sent = 0

    def send() -> Iterator[bytes]:
        nonlocal sent
        yield CHUNKED
        for _ in range(2_000):
            yield chunk(bytes(10_000))
            sent += 10_000
        yield chunk(b"")

    async def test() -> None:
        async with speaking(Bytes(send())) as (_, client), client.stream("/events") as stream:
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 2_000_000
            assert 20_000_000 == len(await read_on(stream))

    run(test())
