"""Calls to the engine from the event loop: cheap reads, and long streams (events, logs).

Uses aiohttp, because the docker SDK needs a thread for each stream, treats a broken connection as the stream's end, and
cannot distinguish standard output from standard error. Errors are those of :mod:`container_manager.engine.client`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any

import aiohttp

from container_manager.backend import CallObserver
from container_manager.engine.call_observer import observed, operation_of
from container_manager.engine.transport_errors import (
    HTTP_UNAUTHORIZED,
    EngineRejectedError,
    access_denied,
    error_text,
    no_answer,
)

_NO_ANSWER = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError, LookupError)
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)


class AsyncEngineClient:
    """A client of one engine, for any number of tasks of one event loop. Use and close it on the loop."""

    def __init__(self, docker_host: str, *, timeout_seconds: float, observer: CallObserver | None = None) -> None:
        self._docker_host = docker_host
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._session: aiohttp.ClientSession | None = None
        self._api_version: str | None = None

    async def close(self) -> None:
        """Close all connections, including those of streams."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get_json(
        self, path: str, params: Mapping[str, str] | None = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """The decoded JSON response to GET.

        Raises :class:`EngineRejectedError` for an error response, :class:`EngineTimeoutError` after
        ``timeout_seconds`` (``None``: the client's own), :class:`EngineUnavailableError`,
        :class:`EngineAccessDeniedError`.
        """
        with observed(self._observer, operation_of(path)), self._translated_errors():
            async with asyncio.timeout(timeout_seconds or self._timeout_seconds):
                return json.loads(await self._get(await self._versioned(path), params))

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[EngineStream]:
        """The response body of GET, as a stream of any length. Errors as of :meth:`get_json`.

        The block starts when the engine has begun to respond. Data waits in the socket until it is read.
        """
        with observed(self._observer, operation_of(path)), self._translated_errors():
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._open(await self._versioned(path), params)
        try:
            yield EngineStream(response, self._translated_errors)
        finally:
            # Close, not release: a reused connection would still carry the rest of the stream.
            response.close()

    async def _get(self, path: str, params: Mapping[str, str] | None) -> bytes:
        response = await self._open(path, params)
        try:
            return await response.read()
        finally:
            response.release()

    async def _open(self, path: str, params: Mapping[str, str] | None) -> aiohttp.ClientResponse:
        response = await self._opened().get(path, params=params, allow_redirects=False)
        if response.status == HTTPStatus.OK:
            return response
        try:
            raise EngineRejectedError(response.status, error_text(await response.read()))
        finally:
            response.release()

    async def _versioned(self, path: str) -> str:
        if self._api_version is None:
            self._api_version = str(json.loads(await self._get("/version", None))["ApiVersion"])
        return f"/v{self._api_version}{path}"

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._docker_host.startswith("unix://"):
                base = "http://localhost"
                # Callers limit the number of concurrent calls.
                connector = aiohttp.UnixConnector(path=self._docker_host.removeprefix("unix://"), limit=0)
            else:
                base = self._docker_host.replace("tcp://", "http://", 1)
                connector = aiohttp.TCPConnector(limit=0)
            # Each call sets its own timeout; a stream has none.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
            self._session = aiohttp.ClientSession(base, connector=connector, timeout=timeout)
        return self._session

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except EngineRejectedError as exc:
            if exc.status in HTTP_UNAUTHORIZED:
                raise access_denied(self._docker_host, exc.text) from exc
            # The engine may have been replaced by another version, which refuses ours.
            if exc.status == HTTPStatus.BAD_REQUEST:
                self._api_version = None
            raise
        except _NO_ANSWER as exc:
            # The engine may return as another version.
            self._api_version = None
            raise no_answer(self._docker_host, exc, _TIMEOUTS) from exc


class EngineStream:
    """The body of one response."""

    def __init__(
        self, response: aiohttp.ClientResponse, translated_errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._response = response
        self._translated_errors = translated_errors

    @property
    def content_type(self) -> str:
        """The response's ``Content-Type``, without parameters."""
        return self._response.content_type

    async def read(self) -> bytes:
        """The next available bytes; empty at the end.

        Raises :class:`EngineUnavailableError` if the connection ended before the response did.
        """
        with self._translated_errors():
            return await self._response.content.readany()
