"""A client of an engine for the event loop, scripted, whose answers come at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from container_manager.engine.async_client import AsyncEngineClient


class ScriptedEngine:
    """Stands in for an ``AsyncEngineClient``."""

    def __init__(
        self,
        answer: Any = None,
        chunks: Sequence[bytes] = (),
        *,
        rows: list[Any] | None = None,
        documents: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """``rows``: of the list; ``documents``: of containers, by their keys; else, ``answer`` is the answer."""
        self.rows = rows
        self.documents = documents
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.timeouts: list[float | None] = []
        self._answer = answer
        self._chunks = list(chunks)
        self.open = 0

    async def get_json(self, path: str, params: dict[str, str] | None = None, *, timeout_seconds: Any = None) -> Any:
        self._asked(path, params)
        self.timeouts.append(timeout_seconds)
        if path == "/containers/json" and self.rows is not None:
            return self.rows
        answer = self.documents.get(path.split("/")[2], self._answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    find_json: Any = AsyncEngineClient.find_json

    async def get_items(self, path: str, convert: Callable[[Any], Any], params: dict[str, str]) -> list[Any]:
        return [convert(item) for item in await self.get_json(path, params)]

    @asynccontextmanager
    async def stream(self, path: str, params: dict[str, str]) -> AsyncIterator[Any]:
        self._asked(path, params)
        if isinstance(self._answer, Exception):
            raise self._answer
        self.open += 1
        yield self
        self.open -= 1

    async def read(self) -> bytes:
        """The next bytes of the stream."""
        return self._chunks.pop(0) if self._chunks else b""

    def _asked(self, path: str, params: dict[str, str] | None) -> None:
        filters = json.loads((params or {}).get("filters", "null"))
        self.requests.append((path, {**(params or {}), "filters": filters}))


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
