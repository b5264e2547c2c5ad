"""Manages bots over HTTP with the client. See README.md in this directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import grpc
import grpc.aio
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict, ParseError

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect_aio, error_info

DEFAULT_TARGET = "unix:///run/botmaker/container-manager.sock"
RESUME_SECONDS = 0.5
MAX_BATCH_ENTRIES = 1000

# The mapping of google.rpc.Code to HTTP.
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with connect_aio(os.environ.get("CONTAINER_MANAGER_TARGET", DEFAULT_TARGET)) as channel:
        app.state.manager = ContainerManagerStub(channel)
        app.state.observer = ContainerObserverStub(channel)
        yield


app = FastAPI(title="BotMaker", lifespan=_connected)


@app.exception_handler(grpc.aio.AioRpcError)
async def _failed(_: Request, exc: grpc.aio.AioRpcError) -> JSONResponse:
    info = error_info(exc)
    body = {"reason": info.reason or info.code.name, "message": info.message, "fields": dict(info.field_violations)}
    return JSONResponse(body, HTTP_STATUS.get(info.code, 500))


@app.get("/bots")
async def list_bots() -> list[dict[str, Any]]:
    """The containers of all bots, and orphans."""
    answer = await app.state.manager.ListManagedContainers(pb.ListManagedContainersRequest())
    return [MessageToDict(container) for container in answer.containers]


@app.get("/bots/{bot_id}")
async def get_bot(bot_id: str) -> dict[str, Any]:
    """The bot's container."""
    answer = await app.state.manager.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
    if not answer.HasField("status"):
        raise HTTPException(404, f"bot {bot_id} has no container")
    return MessageToDict(answer.status)


@app.post("/bots/{bot_id}", status_code=201)
async def create_bot(bot_id: str, config: Annotated[dict[str, Any], Body(default_factory=dict)]) -> dict[str, Any]:
    """Create the bot's container from a ``ContainerConfig`` in JSON."""
    try:
        message = ParseDict(config, pb.ContainerConfig())
    except ParseError as exc:
        raise HTTPException(400, str(exc)) from exc
    answer = await app.state.manager.CreateContainer(pb.CreateContainerRequest(bot_id=bot_id, config=message))
    return MessageToDict(answer)


@app.post("/bots/{bot_id}/start")
async def start_bot(bot_id: str) -> None:
    """Start the bot. A failed start is not retried."""
    await app.state.manager.StartContainer(pb.StartContainerRequest(bot_id=bot_id))


@app.post("/bots/{bot_id}/stop")
async def stop_bot(bot_id: str, grace_seconds: int | None = None) -> None:
    """Stop the bot."""
    await app.state.manager.StopContainer(pb.StopContainerRequest(bot_id=bot_id, grace_period=_grace(grace_seconds)))


@app.post("/bots/{bot_id}/restart")
async def restart_bot(bot_id: str, grace_seconds: int | None = None) -> None:
    """Stop the bot and start it again."""
    request = pb.RestartContainerRequest(bot_id=bot_id, grace_period=_grace(grace_seconds))
    await app.state.manager.RestartContainer(request)


@app.delete("/bots/{bot_id}")
async def remove_bot(bot_id: str) -> None:
    """Remove the bot's container, if it has one."""
    await app.state.manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot_id))


@app.get("/bots/{bot_id}/logs")
async def bot_logs(bot_id: str, follow: bool = False, tail: int | None = None) -> StreamingResponse:
    """The bot's log, standard output and standard error together."""
    # Check first, because the HTTP status cannot change after the stream has started.
    await get_bot(bot_id)
    request = observer_pb.StreamLogsRequest(
        bot_id=bot_id, follow=follow, tail_lines=tail, max_batch_entries=MAX_BATCH_ENTRIES
    )

    async def body() -> AsyncIterator[bytes]:
        async for entries in _log_batches(request):
            yield b"".join(entry.line if entry.partial else entry.line + b"\n" for entry in entries)

    return StreamingResponse(body(), media_type="text/plain; charset=utf-8")


async def _log_batches(request: observer_pb.StreamLogsRequest) -> AsyncIterator[Sequence[observer_pb.LogEntry]]:
    """Yields the entries as they arrive. With ``follow``, resumes when the service or the engine is back."""
    while True:
        try:
            async for message in app.state.observer.StreamLogs(request):
                # A service that does not know batches sends one entry at a time, in entry.
                entries = message.entries or [message.entry]
                request.after_cursor = entries[-1].cursor
                request.ClearField("tail_lines")
                yield entries
        except grpc.aio.AioRpcError as exc:
            if not request.follow or exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(RESUME_SECONDS)
        else:
            return


@app.get("/events")
async def events() -> StreamingResponse:
    """The current statuses, then every change, as server-sent events."""

    async def body() -> AsyncIterator[str]:
        async for message in app.state.observer.WatchContainers(observer_pb.WatchContainersRequest()):
            yield f"event: {message.WhichOneof('event')}\ndata: {MessageToJson(message, indent=None)}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


def _grace(seconds: int | None) -> Duration | None:
    return None if seconds is None else Duration(seconds=seconds)
