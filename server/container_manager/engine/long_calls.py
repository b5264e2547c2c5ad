"""Calls that the engine answers after minutes or days. They cost a connection each, and one thread all together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

from container_manager.backend import CallObserver
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    EngineTimeoutError,
    EngineUnavailableError,
    ShuttingDownError,
)

T = TypeVar("T")

_CLOSE_SECONDS = 5.0
# Podman's answer to the stop of a paused container, which it does not let go on.
_IS_PAUSED = "is running or paused"


class LongCalls:
    """Stops, restarts and pulls of one engine, as futures, from any number of threads.

    The futures raise the errors of :mod:`container_manager.engine.client`. Each call has a connection of its own:
    on one that was used before, a request can be lost when the engine has been restarted. Its thread starts with the
    first call, which raises :class:`CapacityExceededError` where the machine has none to spare.
    """

    def __init__(self, docker_host: str, *, timeout_seconds: float, observer: CallObserver | None = None) -> None:
        self.engine = AsyncEngineClient(
            docker_host, timeout_seconds=timeout_seconds, observer=observer, keep_connections=False
        )
        """For use in coroutines that :meth:`submit` is given."""
        self._timeout_seconds = timeout_seconds
        # By stop or restart under way: its container. Used on the loop alone.
        self._limits: dict[asyncio.Timeout, str] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Cancel the calls under way, and end the thread. What the engine has begun, it ends."""
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is None or thread is None:
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._cancel_all(), loop).result(_CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_SECONDS)
        if not thread.is_alive():
            loop.close()

    def stop_container(self, container_id: str, grace_seconds: int) -> Future[None]:
        """Stop a container, however long its grace period. No effect on a stopped one."""
        return self.submit(self._stop(container_id, grace_seconds))

    def restart_container(self, container_id: str, grace_seconds: int) -> Future[None]:
        """Stop and start a container: one request, never repeated."""
        return self.submit(self._post(container_id, "restart", grace_seconds))

    def kill_container(self, container_id: str, start_time_ns: int | None = None) -> Future[None]:
        """Kill a container's process; no effect without one, or on one that started at another time than given.

        A stop or restart of the container that is under way is then answered within the time-out, or is
        :class:`EngineTimeoutError`: its answer may be lost.
        """
        return self.submit(self._kill(container_id, start_time_ns))

    def submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the thread of all long calls."""
        # While the lock is held, the loop does not end.
        with self._lock:
            try:
                return asyncio.run_coroutine_threadsafe(call, self._running_loop())
            except ShuttingDownError:
                call.close()
                raise
            except RuntimeError as exc:
                call.close()
                raise CapacityExceededError(
                    "the machine has no thread to spare for the engine; try again later"
                ) from exc

    async def _post(self, container_id: str, verb: str, grace_seconds: int) -> None:
        path, params = f"/containers/{container_id}/{verb}", {"t": str(grace_seconds)}
        try:
            async with asyncio.timeout(None) as limit:
                self._limits[limit] = container_id
                try:
                    await self.engine.post(f"{verb}_container", path, params, extra_seconds=grace_seconds)
                finally:
                    del self._limits[limit]
        except TimeoutError:
            raise EngineTimeoutError(f"the engine did not answer the {verb} in time after a kill") from None
        except asyncio.CancelledError:
            raise EngineUnavailableError("the engine has not answered yet, and is not asked any more") from None

    async def _stop(self, container_id: str, grace_seconds: int) -> None:
        try:
            await self._post(container_id, "stop", grace_seconds)
        except EngineRejectedError as exc:
            if _IS_PAUSED not in exc.text:
                raise
            await self.engine.post("unpause_container", f"/containers/{container_id}/unpause")
            await self._post(container_id, "stop", grace_seconds)

    async def _kill(self, container_id: str, start_time_ns: int | None) -> None:
        await self._kill_process(container_id, start_time_ns)
        when = asyncio.get_running_loop().time() + self._timeout_seconds
        for limit, container in self._limits.items():
            if container == container_id and not limit.expired():
                limit.reschedule(when)

    async def _kill_process(self, container_id: str, start_time_ns: int | None) -> None:
        try:
            if start_time_ns is not None:
                document = await self.engine.get_json(f"/containers/{container_id}/json")
                if time_ns(document["State"]["StartedAt"]) != start_time_ns:
                    return
            await self.engine.post("kill_container", f"/containers/{container_id}/kill")
        except EngineRejectedError as exc:
            # It is gone, or has no process.
            if exc.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise ShuttingDownError
        if self._loop is None:
            loop = asyncio.new_event_loop()
            # A daemon: what waits for the engine does not delay the exit of the process.
            thread = threading.Thread(target=loop.run_forever, name="long engine calls", daemon=True)
            try:
                thread.start()
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, thread
        return self._loop

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.engine.close()
