"""A client on the event loop, and a scripted engine that gives it these answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from container_manager.engine.async_client import AsyncEngineClient
from tests.support.fake_engine import Bytes, FakeEngine, Json, Script

PATH = "/containers/c1/json"
DOCUMENT = Json({"Id": "c1"})
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json; charset=utf-8\r\n\r\n"
LENGTH_100 = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def run(test: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await test

    return asyncio.run(bounded())


@asynccontextmanager
async def speaking(*answers: Script, timeout_seconds: float = 5) -> AsyncIterator[tuple[FakeEngine, AsyncEngineClient]]:
    """An engine with these answers, and its client; asserts that no connection is left."""
    with FakeEngine() as engine:
        script(engine, *answers)
        client = AsyncEngineClient(engine.url, timeout_seconds=timeout_seconds)
        try:
            yield engine, client
        finally:
            await client.close()
            await until(lambda: engine.open == 0)


def script(engine: FakeEngine, *answers: Script) -> None:
    """Give these answers to all but ``/version``."""
    engine.on("GET", "/[!v]*", *answers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the condition."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.001)


def versions(engine: FakeEngine) -> list[str]:
    """The API versions of the requests other than ``/version``."""
    return [request.version for request in engine.seen("GET", "/[!v]*")]


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; the empty one is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stalling(*pieces: bytes) -> Bytes:
    """Send these bytes and then nothing more until the client has gone."""
    return Bytes(pieces, stall=True)


HANG = stalling()
