"""Single answers to calls from the event loop, over real sockets: each fault gives one kind of error."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from container_manager.engine import async_client
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError
from tests.support.fake_engine import NO_CONTENT, Answer, Bytes, Cut, FakeEngine, Json, Raw, error
from tests.unit.speaking_engine import (
    CHUNKED,
    DOCUMENT,
    HANG,
    LENGTH_100,
    PATH,
    chunk,
    run,
    script,
    speaking,
    stalling,
    until,
    versions,
)


def test_an_answer_is_decoded_and_asked_for_at_the_engines_own_version_which_is_asked_for_once() -> None:
    async def test() -> None:
        async with speaking(DOCUMENT) as (engine, client):
            for _ in range(2):
                assert {"Id": "c1"} == await client.get_json(PATH, {"all": "1", "filters": '{"a b": ["c=d&e"]}'})
            seen = [(request.version, request.query) for request in engine.seen("GET", PATH)]
            assert [("1.41", {"all": "1", "filters": '{"a b": ["c=d&e"]}'})] * 2 == seen
            assert 1 == len(engine.seen("GET", "/version"))

    run(test())


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, b'{"message":"No such container: c1\\n"}', "No such container: c1"),
        (409, b'{"message":"busy"}', "busy"),
        (500, b'{"message":"boom"}', "boom"),
        (502, b" a proxy's own \xff words ", "a proxy's own \ufffd words"),
        (503, b'["no message"]', '["no message"]'),
        (301, b"", ""),
        (204, b"", ""),
    ],
)
def test_any_other_status_is_a_rejection_with_the_engines_text(status: int, body: bytes, text: str) -> None:
    async def test() -> None:
        async with speaking(Raw(body, status, {"Location": "/elsewhere"})) as (engine, client):
            with pytest.raises(EngineRejectedError) as caught:
                await client.get_json(PATH)
            with pytest.raises(EngineRejectedError):
                async with client.stream(PATH):
                    raise AssertionError
            assert (status, text) == (caught.value.status, caught.value.text)
            assert 2 == len(engine.seen("GET", PATH))

    run(test())


@pytest.mark.parametrize("status", [401, 403])
def test_an_engine_that_refuses_access_is_reported_as_such(status: int) -> None:
    async def test() -> None:
        async with speaking(error(status, "not you")) as (engine, client):
            with pytest.raises(EngineAccessDeniedError, match="not you") as caught:
                await client.get_json(PATH)
            assert engine.url in str(caught.value)

    run(test())


NO_ANSWERS: dict[str, Answer] = {
    "no HTTP": Bytes([b"SSH-2.0-OpenSSH_9.2\r\n"]),
    "a body that is cut": Bytes([LENGTH_100, b'{"Id": "c1"}']),
    "a chunk that is cut": Bytes([CHUNKED, b"40\r\n{"]),
    "an end that is missing": Bytes([CHUNKED, chunk(b'{"Id": "c1"}')]),
    # In one piece: when the size arrives in a segment of its own, aiohttp sometimes waits for the time-out.
    "a chunk without a size": Bytes([CHUNKED + b"x\r\n"]),
    "no JSON": Raw(b"<html>"),
    "half of the JSON": Raw(b'{"Id":'),
    "no UTF-8": Raw(b'{"Id": "\xff"}'),
}


@pytest.mark.parametrize("bad", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_incomplete_answer_is_engine_unavailable_and_the_next_call_succeeds(bad: Answer) -> None:
    async def test() -> None:
        async with speaking(bad, DOCUMENT) as (engine, client):
            with pytest.raises(EngineUnavailableError):
                await client.get_json(PATH)
            engine.api_version = "1.51"
            assert {"Id": "c1"} == await client.get_json(PATH)
            assert ["1.41", "1.51"] == versions(engine)

    run(test())


def test_idle_connections_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_client, "_IDLE_SECONDS", 0.05)

    async def test() -> None:
        async with speaking(DOCUMENT) as (engine, client):
            await asyncio.gather(*(client.get_json(PATH) for _ in range(8)))
            # aiohttp by itself keeps them for 15 s or more.
            async with asyncio.timeout(10):
                await until(lambda: engine.open == 0)

    run(test())


@pytest.mark.parametrize("nothing", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["nothing", "half a head"])
def test_a_connection_closed_without_an_answer_is_engine_unavailable_after_at_most_two_requests(nothing: bytes) -> None:
    """The HTTP client repeats a read once, as an engine may close kept connections."""

    async def test() -> None:
        async with speaking(Bytes([nothing])) as (engine, client):
            with pytest.raises(EngineUnavailableError):
                await client.get_json(PATH)
            assert len(engine.seen("GET", PATH)) <= 2
            script(engine, DOCUMENT)
            assert {"Id": "c1"} == await client.get_json(PATH)

    run(test())


def test_a_missing_socket_is_engine_unavailable() -> None:
    async def test() -> None:
        client = AsyncEngineClient("unix:///nowhere/engine.sock", timeout_seconds=5)
        with pytest.raises(EngineUnavailableError, match=r"/nowhere/engine\.sock cannot be reached: No such file"):
            await client.get_json(PATH)
        await client.close()

    run(test())


@pytest.mark.parametrize("where", [HANG, stalling(LENGTH_100), stalling(CHUNKED, chunk(b"{"))])
def test_an_answer_that_never_starts_or_never_ends_times_out(where: Answer) -> None:
    async def test() -> None:
        async with speaking(DOCUMENT, timeout_seconds=0.1) as (engine, client):
            await client.get_json(PATH, timeout_seconds=5)
            script(engine, where)
            with pytest.raises(EngineTimeoutError):
                await client.get_json(PATH)
            with pytest.raises(EngineTimeoutError):
                await client.get_json(PATH, timeout_seconds=0.05)
            await until(lambda: engine.open == 0)
            assert len(engine.seen("GET", PATH)) > 1
            script(engine, DOCUMENT)
            assert {"Id": "c1"} == await client.get_json(PATH, timeout_seconds=5)

    run(test())


def test_a_cancelled_call_leaves_no_connection() -> None:
    async def test() -> None:
        async with speaking(HANG) as (engine, client):
            call = asyncio.ensure_future(client.get_json(PATH))
            await until(lambda: bool(engine.seen("GET", PATH)))
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
            await until(lambda: engine.open == 0)

    run(test())


def test_the_version_is_read_again_when_a_replaced_engine_refuses_the_old_one() -> None:
    """With socket activation, init queues the requests during a restart, so no call ever failed."""
    refusal = error(400, "client version 1.41 is too old. Minimum supported API version is 1.44")

    async def test() -> None:
        async with speaking(DOCUMENT, refusal, DOCUMENT) as (engine, client):
            await client.get_json(PATH)
            engine.api_version = "1.51"
            with pytest.raises(EngineRejectedError, match="too old"):
                await client.get_json(PATH)
            assert {"Id": "c1"} == await client.get_json(PATH)
            assert "1.51" == versions(engine)[-1]

    run(test())


def test_a_question_for_the_version_without_an_answer_holds_up_others_no_longer_than_a_short_call() -> None:
    """Though the call that asks may take a day, as a stop does."""

    async def test() -> None:
        async with speaking(timeout_seconds=0.2) as (engine, client):
            engine.on("GET", "/version", HANG, Json({"ApiVersion": "1.41"}))
            engine.on("POST", "/containers/*", NO_CONTENT)
            stops = [client.post("stop_container", "/containers/c1/stop", extra_seconds=86_400) for _ in range(3)]
            ended = await asyncio.gather(*stops, return_exceptions=True)
            assert [EngineTimeoutError] * 3 == [type(each) for each in ended]
            assert 1 == len(engine.seen("GET", "/version"))
            await client.post("stop_container", "/containers/c1/stop")

    run(test())


def test_concurrent_calls_share_no_connection_and_later_calls_reuse_them(engine: FakeEngine) -> None:
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


def test_an_engine_on_tcp_answers_and_a_missing_one_is_unavailable() -> None:
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


@contextmanager
def connection_to(port: int) -> Iterator[socket.socket]:
    """The one connection of this process to a port, from outside of the client."""
    with ExitStack() as stack:
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            if descriptor.is_socket():
                each = stack.enter_context(socket.socket(fileno=os.dup(int(descriptor.name))))
                with suppress(OSError):  # not connected
                    if each.getpeername()[1:2] == (port,):
                        found.append(each)
        [connection] = found
        yield connection


def test_a_connection_over_tcp_ends_a_minute_after_the_engines_host_has_gone() -> None:
    """Else nobody notices as long as nothing is sent, as during a stop with a long grace period."""

    def option(of: socket.socket, name: str) -> int:
        return of.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

    async def test() -> None:
        with FakeEngine(tcp=True) as engine:
            engine.on("GET", PATH, Json({"Id": "c1"}))
            client = AsyncEngineClient(engine.url, timeout_seconds=5)
            await client.get_json(PATH)
            with connection_to(int(engine.url.rpartition(":")[2])) as connection:
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                probes = option(connection, "TCP_KEEPINTVL") * option(connection, "TCP_KEEPCNT")
                assert 60 == option(connection, "TCP_KEEPIDLE") + probes
                # While a request is on its way, nothing is probed.
                assert 60_000 == option(connection, "TCP_USER_TIMEOUT")
            await client.close()

    run(test())
