"""Requests a log from an engine: of a container, or of a task of a swarm's service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from container_manager.backend_logs import LogNotDecodableError, LogUnreadableError
from container_manager.backends.followed_log import FollowedLog
from container_manager.engine.async_client import AsyncEngineClient, Readable
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.log_frames import FrameDecoder, LogFaultError, LogFormatError
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineTimeoutError,
    InvalidStateError,
)
from container_manager.model import RawEntry


class EngineLog:
    """The log at one path of an engine, as :class:`~container_manager.backend_logs.ContainerLog` has it."""

    def __init__(
        self, engine: AsyncEngineClient, path: str, container_id: str, *, silence_seconds: float | None = None
    ) -> None:
        """``path``: of what has the log, such as ``/containers/ID``. ``silence_seconds``: existing entries that do not
        come within this time do not come at all; ``None``: they always come.
        """
        self._engine = engine
        self._path = path
        self._container_id = container_id
        self._silence_seconds = silence_seconds
        self.was_opened = False

    async def existing(
        self, tail: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        decoder = FrameDecoder()
        async with self.opened(follow=False, tail=tail, until_ns=until_ns) as stream:
            while data := await self._next(stream):
                async for batch in decoder.feed(data):
                    yield batch
                if decoder.problem is not None:
                    raise decoder.problem

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        return FollowedLog(self, tail, known).batches()

    @asynccontextmanager
    async def opened(self, *, follow: bool, tail: int | None, until_ns: int | None = None) -> AsyncIterator[Readable]:
        """The engine's response. Translates errors that are raised inside the context too, also those of decoders."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
        if follow:
            params["follow"] = "1"
        if tail is not None:
            params["tail"] = str(tail)
        if until_ns is not None:
            params["until"] = f"{until_ns // 1_000_000_000}.{until_ns % 1_000_000_000:09d}"
        try:
            async with self._engine.stream(f"{self._path}/logs", params) as stream:
                self.was_opened = True
                yield stream
        except EngineRejectedError as exc:
            raise self._error(exc) from exc
        except LogFaultError as exc:
            raise LogUnreadableError(f"the engine can't read the container's log: {exc}") from exc
        except LogFormatError as exc:
            # The log of a container with a terminal has no frames either.
            metadata = {"container_id": self._container_id}
            text = f"the container's log is not in the engine's frames: {exc}"
            raise LogNotDecodableError(text, **metadata) from exc

    async def _next(self, stream: Readable) -> bytes:
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await stream.read()
        except TimeoutError:
            raise EngineTimeoutError("the engine does not send the log") from None

    def _error(self, exc: EngineRejectedError) -> ContainerManagerError:
        metadata = {"container_id": self._container_id}
        if exc.status == HTTPStatus.NOT_FOUND:
            return ContainerNotFoundError(f"the container is gone: {exc.text}", **metadata)
        # 501: the log driver keeps nothing. 409: the container is dead or being removed.
        if exc.status in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.CONFLICT) or "does not support reading" in exc.text:
            return InvalidStateError(f"the container's log can't be read: {exc.text}", **metadata)
        return engine_error(exc)
