"""Requests one container's log from an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from container_manager.backend import LogUnreadableError
from container_manager.backends.docker.followed_log import FollowedLog
from container_manager.engine.async_client import AsyncEngineClient, EngineStream
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.log_frames import FrameDecoder, LogFaultError, LogFormatError
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, ContainerNotFoundError, InvalidStateError
from container_manager.model import RawEntry


class DockerContainerLog:
    """A :class:`~container_manager.backend.ContainerLog`."""

    def __init__(self, engine: AsyncEngineClient, container_id: str) -> None:
        self._engine = engine
        self._path = f"/containers/{container_id}"
        self._container_id = container_id
        self.was_opened = False

    async def runs(self) -> bool:
        try:
            state = (await self._engine.get_json(f"{self._path}/json"))["State"]
        except EngineRejectedError as exc:
            raise self._error(exc) from exc
        return bool(state["Running"]) and not state["Restarting"]

    async def existing(self, tail: int | None = None) -> AsyncGenerator[list[RawEntry], None]:
        decoder = FrameDecoder()
        async with self.opened(follow=False, tail=tail) as stream:
            while data := await stream.read():
                async for batch in decoder.feed(data):
                    yield batch
                if decoder.problem is not None:
                    raise decoder.problem

    def follow(self, tail: int | None = None, *, known: int = 0) -> AsyncGenerator[list[RawEntry], None]:
        return FollowedLog(self, tail, known).batches()

    @asynccontextmanager
    async def opened(self, *, follow: bool, tail: int | None) -> AsyncIterator[EngineStream]:
        """The engine's response. Translates errors that are raised inside the context too, also those of decoders."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
        if follow:
            params["follow"] = "1"
        if tail is not None:
            params["tail"] = str(tail)
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
            raise InvalidStateError(f"the container's log is not in the engine's frames: {exc}", **metadata) from exc

    def _error(self, exc: EngineRejectedError) -> ContainerManagerError:
        metadata = {"container_id": self._container_id}
        if exc.status == HTTPStatus.NOT_FOUND:
            return ContainerNotFoundError(f"the container is gone: {exc.text}", **metadata)
        # 501: the log driver keeps nothing. 409: the container is dead or being removed.
        if exc.status in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.CONFLICT) or "does not support reading" in exc.text:
            return InvalidStateError(f"the container's log can't be read: {exc.text}", **metadata)
        return engine_error(exc)
