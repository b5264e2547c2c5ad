"""Single answers to calls from the event loop, over real sockets: each fault gives one kind of error."""

from __future__ import annotations

import asyncio

import pytest

from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import Cut, FakeEngine, Json, error
from tests.unit.raw_engine import CHUNKED, Answer, answer, chunk, head
from tests.unit.speaking_engine import DOCUMENT, PATH, hang, run, speaking, stalling


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
    """The HTTP client repeats a read once, as an engine may close kept connections."""

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
    """With socket activation, init queues the requests during a restart, so no call ever failed."""
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
