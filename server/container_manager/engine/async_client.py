"""Calls to the engine from an event loop: cheap reads, long streams (events, logs, pulls), and long calls (stop).

Uses aiohttp, because the docker SDK needs a thread for each of them, treats a broken connection as the stream's end,
and cannot distinguish standard output from standard error. Errors are those of :mod:`container_manager.engine.client`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import aiohttp

from container_manager.backend import PULL, CallObserver
from container_manager.engine.call_observer import observed, operation_of
from container_manager.engine.json_items import json_items
from container_manager.engine.transport_errors import (
    EngineRejectedError,
    access_denied,
    denies_access,
    error_text,
    no_answer,
)

_NO_ANSWER = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError, LookupError)
# An unused connection is closed after once to twice as long; aiohttp rounds more than 5 s up.
_IDLE_SECONDS = 5.0
_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)
# A host that is gone answers nothing: its connections end after 60 s, also while a long call sends nothing.
_TCP_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # Nothing is probed while a request is not acknowledged. In ms.
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)
# The answers to POST beside 200. 304: a container is in the wanted state already.
_DONE = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
# Rows of the list of containers, of about 2 kB each: less than a millisecond.
_ITEMS_AT_ONCE = 25

T = TypeVar("T")


class AsyncEngineClient:
    """A client of one engine, for any number of tasks of one event loop. Use and close it on the loop."""

    def __init__(
        self,
        docker_host: str,
        *,
        timeout_seconds: float,
        observer: CallObserver | None = None,
        keep_connections: bool = True,
    ) -> None:
        """``keep_connections``: use a connection again, which the engine may have closed meanwhile."""
        self._docker_host = docker_host
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._keep_connections = keep_connections
        self._session: aiohttp.ClientSession | None = None
        self._api_version: str | None = None
        self._question: asyncio.Task[str] | None = None

    async def close(self) -> None:
        """Close all connections, including those of streams."""
        session, self._session = self._session, None
        if self._question is not None:
            self._question.cancel()
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

    async def get_bytes(
        self, path: str, params: Mapping[str, str] | None = None, *, timeout_seconds: float | None = None
    ) -> bytes:
        """The response to GET as it is. Errors as of :meth:`get_json`."""
        with observed(self._observer, operation_of(path)), self._translated_errors():
            async with asyncio.timeout(timeout_seconds or self._timeout_seconds):
                return await self._get(await self._versioned(path), params)

    async def find_json(
        self, path: str, params: Mapping[str, str] | None = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """As :meth:`get_json`; ``None`` if the engine has nothing at the path."""
        try:
            return await self.get_json(path, params, timeout_seconds=timeout_seconds)
        except EngineRejectedError as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    async def get_items(
        self,
        path: str,
        convert: Callable[[Any], T],
        params: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> list[T]:
        """The converted items of the JSON array in the response to GET. Errors as of :meth:`get_json`.

        Decodes and converts in small steps: thousands of items at once would hold up the event loop.
        """
        with observed(self._observer, operation_of(path)), self._translated_errors():
            async with asyncio.timeout(timeout_seconds or self._timeout_seconds):
                text = (await self._get(await self._versioned(path), params)).decode()
                items: list[T] = []
                for item in json_items(text):
                    items.append(convert(item))
                    if len(items) % _ITEMS_AT_ONCE == 0:
                        await asyncio.sleep(0)
                return items

    async def post(
        self, operation: str, path: str, params: Mapping[str, str] | None = None, *, extra_seconds: float = 0
    ) -> None:
        """Send POST without a body, once. Errors as of :meth:`get_json`.

        ``operation`` names it for the observer. ``extra_seconds`` come on top of the client's time-out.
        """
        with observed(self._observer, operation), self._translated_errors():
            async with asyncio.timeout(self._timeout_seconds + extra_seconds):
                response = await self._open(await self._versioned(path), params, method="POST")
                response.release()

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

    @asynccontextmanager
    async def pull(self, params: Mapping[str, str], registry_auth: str | None) -> AsyncIterator[EngineStream]:
        """The engine's messages while it pulls an image. It ends the pull when this connection is closed.

        The block starts with the first message, which may take as long as a registry does. Errors as of
        :meth:`get_json`, without a time-out.
        """
        headers = {} if registry_auth is None else {"X-Registry-Auth": registry_auth}
        with observed(self._observer, PULL), self._translated_errors(registry=True):
            path = await self._versioned("/images/create")
            response = await self._open(path, params, method="POST", headers=headers)
            try:
                yield EngineStream(response, self._translated_errors)
            finally:
                response.close()

    async def _get(self, path: str, params: Mapping[str, str] | None) -> bytes:
        response = await self._open(path, params)
        try:
            return await response.read()
        finally:
            response.release()

    async def _open(
        self,
        path: str,
        params: Mapping[str, str] | None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        response = await self._opened().request(method, path, params=params, headers=headers, allow_redirects=False)
        if response.status == HTTPStatus.OK or (method == "POST" and response.status in _DONE):
            return response
        try:
            raise EngineRejectedError(response.status, error_text(await response.read()))
        finally:
            response.release()

    async def _versioned(self, path: str) -> str:
        version = self._api_version
        if version is None:
            # Many calls may begin at once, and share the question and its failure.
            if self._question is None or self._question.done():
                self._question = asyncio.create_task(self._ask_version())
            version = await asyncio.shield(self._question)
        return f"/v{version}{path}"

    async def _ask_version(self) -> str:
        # Not for as long as the call may take that begins it.
        async with asyncio.timeout(self._timeout_seconds):
            version = str(json.loads(await self._get("/version", None))["ApiVersion"])
        self._api_version = version
        return version

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            kept: Any = {"keepalive_timeout": _IDLE_SECONDS} if self._keep_connections else {"force_close": True}
            if self._docker_host.startswith("unix://"):
                base = "http://localhost"
                # Callers limit the number of concurrent calls.
                connector = aiohttp.UnixConnector(path=self._docker_host.removeprefix("unix://"), limit=0, **kept)
            else:
                base = self._docker_host.replace("tcp://", "http://", 1)
                connector = aiohttp.TCPConnector(limit=0, socket_factory=_tcp_socket, **kept)
            # Each call sets its own timeout; a stream has none.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
            self._session = aiohttp.ClientSession(base, connector=connector, timeout=timeout)
        return self._session

    @contextmanager
    def _translated_errors(self, *, registry: bool = False) -> Iterator[None]:
        """``registry``: 401 and 403 come from a registry, to which the engine passed the request on."""
        try:
            yield
        except EngineRejectedError as exc:
            if denies_access(exc) and not registry:
                raise access_denied(self._docker_host, exc.text) from exc
            # The engine may have been replaced by another version, which refuses ours.
            if exc.status == HTTPStatus.BAD_REQUEST:
                self._api_version = None
            raise
        except _NO_ANSWER as exc:
            # The engine may return as another version.
            self._api_version = None
            raise no_answer(self._docker_host, exc, _TIMEOUTS) from exc


def _tcp_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    created = socket.socket(*address[:3])
    for option in _TCP_OPTIONS:
        created.setsockopt(*option)
    return created


class Readable(Protocol):
    """A stream of bytes."""

    async def read(self) -> bytes:
        """The next available bytes; empty at the end."""


async def lines_of(stream: Readable) -> AsyncIterator[bytes]:
    """The lines of a stream, each with its newline, which the last one may lack; blank ones are left out."""
    rest = b""
    while data := await stream.read():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield line + b"\n"
    if rest.strip():
        yield rest


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

        Raises :class:`EngineUnavailableError` if the connection ended before the response did, and
        :class:`EngineTimeoutError` if it ended because the engine's host has gone.
        """
        with self._translated_errors():
            return await self._response.content.readany()
