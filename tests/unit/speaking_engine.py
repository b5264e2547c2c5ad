"""A client on the event loop, and a raw engine that gives it these answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from container_manager.engine.async_client import AsyncEngineClient
from tests.unit.raw_engine import Answer, RawEngine, answer

PATH = "/containers/c1/json"
DOCUMENT = answer(b'{"Id": "c1"}')


def run(test: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await test

    return asyncio.run(bounded())


@asynccontextmanager
async def speaking(*answers: Answer, timeout_seconds: float = 5) -> AsyncIterator[tuple[RawEngine, AsyncEngineClient]]:
    """An engine with these answers, and its client; asserts that no connection is left."""
    async with RawEngine(*answers) as engine:
        client = AsyncEngineClient(engine.url, timeout_seconds=timeout_seconds)
        try:
            yield engine, client
        finally:
            await client.close()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Hang until the client has gone."""
    assert b"" == await reader.read()


def stalling(data: bytes) -> Answer:
    """Send these bytes and then nothing more."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await hang(reader, writer)

    return send
