"""Bots' logs, which go on across restarts of the bot and of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

import grpc
import grpc.aio

from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import error_info

FIRST_SECONDS = 1.0
RESUME_SECONDS = 0.5
MAX_BATCH_ENTRIES = 1000


async def read_log(observer: ContainerObserverStub, request: observer_pb.StreamLogsRequest) -> AsyncIterator[bytes]:
    """The log's bytes. An error at its start is raised, because an HTTP status cannot change later."""
    request.max_batch_entries = MAX_BATCH_ENTRIES
    batches = _batches(observer, request)
    first = asyncio.ensure_future(anext(batches, b""))
    # A quiet log has no entry for a long time.
    await asyncio.wait([first], timeout=FIRST_SECONDS)
    if first.done():
        first.result()
    return _body(first, batches, observer, request)


async def _body(
    first: Awaitable[bytes],
    batches: AsyncIterator[bytes],
    observer: ContainerObserverStub,
    request: observer_pb.StreamLogsRequest,
) -> AsyncIterator[bytes]:
    """All batches. With ``follow``, resumes when the service or the engine is back."""
    while True:
        try:
            yield await first
            async for batch in batches:
                yield batch
        except grpc.aio.AioRpcError as exc:
            info = error_info(exc)
            if not request.follow or info.code is not grpc.StatusCode.UNAVAILABLE:
                # The bot may have been removed meanwhile, and its log with it.
                if info.code is not grpc.StatusCode.NOT_FOUND:
                    yield f"[the log ends here: {info.reason or info.code.name}]\n".encode()
                return
        else:
            return
        await asyncio.sleep(RESUME_SECONDS)
        batches = _batches(observer, request)
        first = anext(batches, b"")


async def _batches(
    observer: ContainerObserverStub, request: observer_pb.StreamLogsRequest
) -> AsyncGenerator[bytes, None]:
    """The entries as they arrive. Another call with the same request goes on after the last one."""
    async for message in observer.StreamLogs(request):
        # A service that does not know batches sends one entry at a time, in entry.
        entries = message.entries or [message.entry]
        request.after_cursor = entries[-1].cursor
        request.ClearField("tail_lines")
        yield b"".join(entry.line if entry.partial else entry.line + b"\n" for entry in entries)
