"""The requests for one container's log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

from container_manager.engine.async_client import AsyncEngineClient, EngineStream
from container_manager.engine.failures import engine_error
from container_manager.engine.no_answer import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    ContainerNotFoundError,
    EngineUnavailableError,
    InvalidStateError,
)
from container_manager.observer.log_cursor import MARGIN_NS, Placing
from container_manager.observer.log_entries import (
    Decoder,
    FrameDecoder,
    LogFaultError,
    LogFormatError,
    RawEntry,
)
from container_manager.observer.terminal_log import TerminalDecoder


class LogUnreadableError(EngineUnavailableError):
    """The engine answered, but could not read the container's log to its end."""


class ContainerLog:
    """One container's log at one engine.

    Every method raises :class:`ContainerNotFoundError` for a container that is gone, :class:`InvalidStateError` for one
    whose log can't be read, :class:`LogUnreadableError`, and the domain's other ``Engine…Error``.
    """

    def __init__(self, engine: AsyncEngineClient, container_id: str) -> None:
        self._engine = engine
        self._path = f"/containers/{container_id}"
        self._container_id = container_id
        self._terminal: bool | None = None
        self.was_opened = False
        """The engine has answered with the log, once at least."""

    async def runs(self) -> bool:
        """Whether the container's process runs just now."""
        state = (await self._inspect())["State"]
        return bool(state["Running"]) and not state["Restarting"]

    async def has_terminal(self) -> bool:
        """Whether the container has one, which can't change."""
        if self._terminal is None:
            self._terminal = bool((await self._inspect())["Config"]["Tty"])
        return self._terminal

    async def first_of_tail(self, count: int) -> RawEntry | None:
        """The first of the last ``count`` entries; ``None`` for an empty log."""
        async with aclosing(self.batches(tail=count)) as batches:
            async for batch in batches:
                return batch[0]
        return None

    async def last_place_ns(self) -> int | None:
        """The place of the last entry; ``None`` for an empty log."""
        last = await self.first_of_tail(1)
        if last is None:
            return None
        placing = Placing()
        async with aclosing(self.batches(since_ns=max(last[0] - MARGIN_NS, 0))) as batches:
            async for batch in batches:
                for engine_ns, *_ in batch:
                    placing.place(engine_ns)
        return placing.last_ns

    async def batches(
        self, *, since_ns: int | None = None, tail: int | None = None
    ) -> AsyncGenerator[list[RawEntry], None]:
        """What there is now, some entries at a time, at least one."""
        decoder = await self.decoder()
        async with self.opened(follow=False, since_ns=since_ns, tail=tail) as stream:
            while data := await stream.read():
                if batch := decoder.feed(data):
                    yield batch
            if batch := decoder.end():
                yield batch

    async def decoder(self) -> Decoder:
        """A decoder for one answer."""
        return TerminalDecoder() if await self.has_terminal() else FrameDecoder()

    @asynccontextmanager
    async def opened(
        self, *, follow: bool, since_ns: int | None = None, tail: int | None = None
    ) -> AsyncIterator[EngineStream]:
        """The engine's answer. What is raised within is translated as well, decoders' errors too."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
        if follow:
            params["follow"] = "1"
        if since_ns is not None:
            params["since"] = f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09d}"
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
            raise ContainerManagerError(f"the engine's log is not understood: {exc}") from exc

    async def _inspect(self) -> Any:
        try:
            return await self._engine.get_json(f"{self._path}/json")
        except EngineRejectedError as exc:
            raise self._error(exc) from exc

    def _error(self, exc: EngineRejectedError) -> ContainerManagerError:
        metadata = {"container_id": self._container_id}
        if exc.status == HTTPStatus.NOT_FOUND:
            return ContainerNotFoundError(f"the container is gone: {exc.text}", **metadata)
        # 501: its log driver keeps nothing. 409: it is being removed, or dead.
        if exc.status in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.CONFLICT) or "does not support reading" in exc.text:
            return InvalidStateError(f"the container's log can't be read: {exc.text}", **metadata)
        return engine_error(exc)
