"""Long lists are decoded in small steps, and are what JSON has."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from container_manager.engine.async_client import AsyncEngineClient
from container_manager.errors import EngineUnavailableError
from tests.support.fake_engine import Bytes, FakeEngine, Json
from tests.unit.speaking_engine import run

ARRAYS = ["[]", " [ ] ", '[{"a": [1, 2]}]', ' [\n1 , "],[" ,{}, [[]] ]\n', str(list(range(1000)))]


@pytest.mark.parametrize("text", ARRAYS, ids=lambda text: text[:20])
def test_the_items_of_a_list_are_those_that_json_has(engine: FakeEngine, text: str) -> None:
    engine.on("GET", "/containers/json", lambda _: Bytes([_answer(text)]))
    assert [[item] for item in json.loads(text)] == run(_items(engine))


@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,", "[1,]", "[1]]", "[1 2]", "[,1]", '{"message": "no"}'])
def test_what_is_no_list_is_an_engine_out_of_reach(engine: FakeEngine, text: str) -> None:
    engine.on("GET", "/containers/json", lambda _: Bytes([_answer(text)]))
    with pytest.raises(EngineUnavailableError):
        run(_items(engine))


def test_a_long_list_is_decoded_in_small_steps(engine: FakeEngine) -> None:
    """A list of 5,000 containers takes more than a tenth of a second in one piece."""
    engine.on("GET", "/containers/json", Json([{"number": number} for number in range(1000)]))
    steps, of_step = 0, Counter[int]()

    async def test() -> None:
        client = AsyncEngineClient(engine.url, timeout_seconds=10)

        async def count() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await client.get_items("/containers/json", lambda _: of_step.update([steps]))
        counting.cancel()
        await client.close()

    run(test())
    assert (1000, 25) == (of_step.total(), max(of_step.values()))


def _answer(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


async def _items(engine: FakeEngine) -> list[Any]:
    client = AsyncEngineClient(engine.url, timeout_seconds=10)
    try:
        return await client.get_items("/containers/json", lambda item: [item])
    finally:
        await client.close()
