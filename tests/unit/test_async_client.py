"""Calls from the event loop to an engine that misbehaves, over real sockets: each fault has one kind of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from container_manager.engine.async_client import AsyncEngineClient, EngineStream
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Cut, FakeEngine, Json, error
from tests.unit.raw_engine import CHUNKED, Answer, RawEngine, answer, chunk, head

PATH = "/containers/c1/json"
DOCUMENT = answer(b'{"Id": "c1"}')


def run(test: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await test

    return asyncio.run(bounded())


@asynccontextmanager
async def speaking(*answers: Answer, timeout_seconds: float = 5) -> AsyncIterator[tuple[RawEngine, AsyncEngineClient]]:
    """An engine with these answers, and its client; no connection may be left."""
    async with RawEngine(*answers) as engine:
        client = AsyncEngineClient(engine.url, timeout_seconds=timeout_seconds)
        try:
            yield engine, client
        finally:
            await client.close()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Until the client goes."""
    assert b"" == await reader.read()


def stalling(data: bytes) -> Answer:
    """Sends so much and then nothing more."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await hang(reader, writer)

    return send


# Single answers


def test_an_answer_is_decoded_and_asked_for_at_the_engines_own_version_which_is_asked_for_once() -> None:
    async def test() -> None:
        async with speaking(DOCUMENT) as (engine, client):
            for _ in range(2):
                assert {"Id": "c1"} == await client.get_json(PATH, {"all": "1", "filters": '{"a b": ["c=d&e"]}'})
            expected = f"/v1.41{PATH}?all=1&filters=%7B%22a+b%22:+%5B%22c%3Dd%26e%22%5D%7D"
            assert ([expected] * 2, 1) == (engine.requests, engine.versions_told)

    run(test())


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        ("404 Not Found", b'{"message":"No such container: c1\\n"}', "No such container: c1"),
        ("409 Conflict", b'{"message":"busy"}', "busy"),
        ("500 Internal Server Error", b'{"message":"boom"}', "boom"),
        ("502 Bad Gateway", b" a proxy's own \xff words ", "a proxy's own \ufffd words"),
        ("503 Service Unavailable", b'["no message"]', '["no message"]'),
        ("301 Moved Permanently", b"", ""),
        ("204 No Content", b"", ""),
    ],
)
def test_any_other_status_is_a_rejection_with_the_engines_text(status: str, body: bytes, text: str) -> None:
    async def test() -> None:
        async with speaking(answer(body, status, location="/elsewhere")) as (engine, client):
            with pytest.raises(EngineRejectedError) as caught:
                await client.get_json(PATH)
            with pytest.raises(EngineRejectedError):
                async with client.stream(PATH):
                    raise AssertionError
            assert (int(status[:3]), text) == (caught.value.status, caught.value.text)
            assert 2 == len(engine.requests)

    run(test())


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_an_engine_that_lets_nobody_in_says_so(status: str) -> None:
    async def test() -> None:
        async with speaking(answer(b'{"message":"not you"}', status)) as (engine, client):
            with pytest.raises(EngineAccessDeniedError, match="not you") as caught:
                await client.get_json(PATH)
            assert engine.url in str(caught.value)

    run(test())


NO_ANSWERS: dict[str, Answer] = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a body that is cut": head(content_length="100") + b'{"Id": "c1"}',
    "a chunk that is cut": CHUNKED + b"40\r\n{",
    "an end that is missing": CHUNKED + chunk(b'{"Id": "c1"}'),
    "a chunk without a size": CHUNKED + b"x\r\n",
    "no JSON": answer(b"<html>"),
    "half of the JSON": answer(b'{"Id":'),
    "no UTF-8": answer(b'{"Id": "\xff"}'),
}


@pytest.mark.parametrize("bad", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_whole_answer_is_an_engine_out_of_reach_and_the_next_call_goes_through(bad: Answer) -> None:
    async def test() -> None:
        async with speaking(bad, DOCUMENT) as (engine, client):
            with pytest.raises(EngineUnavailableError):
                await client.get_json(PATH)
            engine.version = "1.51"
            assert {"Id": "c1"} == await client.get_json(PATH)
            assert [f"/v1.41{PATH}", f"/v1.51{PATH}"] == engine.requests

    run(test())


@pytest.mark.parametrize("nothing", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["nothing", "half a head"])
def test_a_connection_that_ends_without_an_answer_is_an_engine_out_of_reach_after_two_at_most(nothing: bytes) -> None:
    """The HTTP client sends a read once more, as an engine closes connections that it has kept."""

    async def test() -> None:
        async with speaking(nothing) as (engine, client):
            with pytest.raises(EngineUnavailableError):
                await client.get_json(PATH)
            assert len(engine.requests) <= 2
            engine.answers = [DOCUMENT]
            assert {"Id": "c1"} == await client.get_json(PATH)

    run(test())


def test_no_socket_is_an_engine_out_of_reach() -> None:
    async def test() -> None:
        client = AsyncEngineClient("unix:///nowhere/engine.sock", timeout_seconds=5)
        with pytest.raises(EngineUnavailableError, match="No such file or directory"):
            await client.get_json(PATH)
        await client.close()

    run(test())


@pytest.mark.parametrize("where", [hang, stalling(head(content_length="100")), stalling(CHUNKED + chunk(b"{"))])
def test_an_answer_that_does_not_come_or_does_not_end_is_given_up_in_time(where: Answer) -> None:
    async def test() -> None:
        async with speaking(where, where, DOCUMENT, timeout_seconds=0.1) as (engine, client):
            with pytest.raises(EngineTimeoutError):
                await client.get_json(PATH)
            with pytest.raises(EngineTimeoutError):
                await client.get_json(PATH, timeout_seconds=0.05)
            await engine.until(lambda: engine.open == 0)
            assert {"Id": "c1"} == await client.get_json(PATH, timeout_seconds=5)

    run(test())


def test_a_call_that_is_cancelled_leaves_no_connection() -> None:
    async def test() -> None:
        async with speaking(hang) as (engine, client):
            call = asyncio.ensure_future(client.get_json(PATH))
            await engine.until(lambda: bool(engine.requests))
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
            await engine.until(lambda: engine.open == 0)

    run(test())


def test_an_engine_that_came_back_unnoticed_as_another_version_is_asked_for_it_when_it_refuses_the_old_one() -> None:
    """Its socket belongs to the machine's init, which keeps what is asked meanwhile: no call ever failed."""
    refusal = b'{"message":"client version 1.41 is too old. Minimum supported API version is 1.44"}'

    async def test() -> None:
        async with speaking(DOCUMENT, answer(refusal, "400 Bad Request"), DOCUMENT) as (engine, client):
            await client.get_json(PATH)
            engine.version = "1.51"
            with pytest.raises(EngineRejectedError, match="too old"):
                await client.get_json(PATH)
            assert {"Id": "c1"} == await client.get_json(PATH)
            assert f"/v1.51{PATH}" == engine.requests[-1]

    run(test())


def test_many_calls_at_once_share_no_connection_and_later_ones_use_those_again(engine: FakeEngine) -> None:
    engine.on("GET", "/containers/*/json", lambda request: Json({"Id": request.path.split("/")[2]}))

    async def test() -> None:
        client = AsyncEngineClient(engine.url, timeout_seconds=10)
        for _ in range(2):
            answers = await asyncio.gather(*(client.get_json(f"/containers/c{number}/json") for number in range(100)))
            assert [f"c{number}" for number in range(100)] == [each["Id"] for each in answers]
        await client.close()

    run(test())
    seen = engine.seen("GET", "/containers/*/json")
    assert not {request.connection for request in seen[:100]}.isdisjoint(request.connection for request in seen[100:])


def test_an_engine_on_tcp_and_none_there() -> None:
    async def test() -> None:
        with FakeEngine(tcp=True) as engine:
            engine.on("GET", PATH, Json({"Id": "c1"}), error(500, "boom"), Cut())
            client = AsyncEngineClient(engine.url, timeout_seconds=5)
            assert {"Id": "c1"} == await client.get_json(PATH)
            with pytest.raises(EngineRejectedError, match="boom"):
                await client.get_json(PATH)
        with pytest.raises(EngineUnavailableError):
            await client.get_json(PATH)
        await client.close()

    run(test())


# Streams


async def read_on(stream: EngineStream) -> bytes:
    """To the end."""
    read = bytearray()
    while data := await stream.read():
        read += data
    return bytes(read)


async def read_all(client: AsyncEngineClient) -> bytes:
    async with client.stream("/events") as stream:
        return await read_on(stream)


def test_a_stream_is_read_as_it_comes_and_ends_with_nothing() -> None:
    pieces = [bytes([number]) * 1000 for number in range(10)]
    told = asyncio.Event()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(pieces[0]))
        await told.wait()
        writer.write(b"".join(map(chunk, [*pieces[1:], b""])))

    async def test() -> None:
        async with speaking(send) as (engine, client), client.stream("/events", {"since": "1"}) as stream:
            assert ["/v1.41/events?since=1"] == engine.requests
            assert (pieces[0], "application/json") == (await stream.read(), stream.content_type)
            told.set()
            assert b"".join(pieces[1:]) == await read_on(stream)
            assert b"" == await stream.read()

    run(test())


@pytest.mark.parametrize("end", [b"", b"5\r\nab"], ids=["no end", "in a chunk"])
def test_a_stream_that_is_cut_is_a_lost_engine_after_all_that_came_and_its_version_is_asked_for_anew(
    end: bytes,
) -> None:
    async def test() -> None:
        async with speaking(CHUNKED + chunk(b"abc") + end, DOCUMENT) as (engine, client):
            async with client.stream("/events") as stream:
                assert b"abc" == (await stream.read())[:3]
                with pytest.raises(EngineUnavailableError):
                    await read_on(stream)
            await client.get_json(PATH)
            assert 2 == engine.versions_told

    run(test())


def test_a_stream_has_to_begin_in_time_and_may_be_silent_for_any_time() -> None:
    told = asyncio.Event()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await told.wait()
        writer.write(chunk(b"late") + chunk(b""))

    async def test() -> None:
        async with speaking(hang, send, timeout_seconds=0.05) as (_, client):
            with pytest.raises(EngineTimeoutError):
                await read_all(client)
            asyncio.get_running_loop().call_later(0.2, told.set)
            assert b"late" == await read_all(client)

    run(test())


def test_a_read_that_is_given_up_takes_nothing_away() -> None:
    told = asyncio.Event()

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        await told.wait()
        writer.write(chunk(b"abc") + chunk(b""))

    async def test() -> None:
        async with speaking(send) as (_, client), client.stream("/events") as stream:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await stream.read()
            told.set()
            assert b"abc" == await stream.read()

    run(test())


@pytest.mark.parametrize("how", ["left", "failed", "closed"])
def test_a_stream_that_is_left_ends_its_connection(how: str) -> None:
    async def test() -> None:
        async with speaking(stalling(CHUNKED + chunk(b"abc"))) as (engine, client):
            try:
                async with client.stream("/events") as stream:
                    assert b"abc" == await stream.read()
                    if how == "closed":
                        await client.close()
                        await engine.until(lambda: engine.open == 0)
                    assert how != "failed"
            except AssertionError:
                assert how == "failed"
            await engine.until(lambda: engine.open == 0)

    run(test())


def test_what_nobody_reads_waits_at_the_engine() -> None:
    sent = 0

    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKED)
        for _ in range(2_000):
            writer.write(chunk(bytes(10_000)))
            await writer.drain()
            sent += 10_000
        writer.write(chunk(b""))

    async def test() -> None:
        async with speaking(send) as (_, client), client.stream("/events") as stream:
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 2_000_000
            assert 20_000_000 == len(await read_on(stream))

    run(test())
