"""Manages bots over HTTP with the client. See README.md in this directory.

``bodies`` has the typed requests, ``failures`` the one form of all errors, ``events`` and ``logs`` the streams.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum
from typing import Annotated, Any

import grpc.aio
from fastapi import Body, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from fastapi_offline import FastAPIOffline
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from pydantic import StringConstraints

from bodies import BotConfig, Secrets
from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect_aio
from events import Events
from failures import ANY_FAILURE, Failure, add_handlers
from logs import read_log

DEFAULT_TARGET = "unix:///run/botmaker/container-manager.sock"
HEALTH_SECONDS = 2.0
MAX_GRACE_SECONDS = 600
MAX_FILE_BYTES = 1024 * 1024

State = Enum("State", {name: name for name in pb.ContainerState.keys()[1:]})
BotIds = Annotated[list[str], Query(alias="bot_id", default_factory=list)]
Label = Annotated[str, StringConstraints(pattern="=")]
ANY_BYTES = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
GraceSeconds = Annotated[int | None, Query(ge=0, le=MAX_GRACE_SECONDS)]


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    async with connect_aio(os.environ.get("CONTAINER_MANAGER_TARGET", DEFAULT_TARGET)) as channel:
        app.state.manager = ContainerManagerStub(channel)
        app.state.observer = ContainerObserverStub(channel)
        app.state.provisioner = BotProvisionerStub(channel)
        app.state.events = Events(app.state.observer)
        following = asyncio.create_task(app.state.events.follow())
        yield
        following.cancel()


# The documentation page at /docs loads nothing from other servers.
app = FastAPIOffline(title="BotMaker", lifespan=_connected, redoc_url=None, responses=ANY_FAILURE)
add_handlers(app)


@app.get("/healthz")
async def health() -> dict[str, str]:
    """Whether the service and its engine answer; 503 if they do not."""
    try:
        info = await app.state.observer.GetServerInfo(observer_pb.GetServerInfoRequest(), timeout=HEALTH_SECONDS)
    except grpc.aio.AioRpcError:
        raise HTTPException(503, "the bot service does not answer") from None
    if not info.backend_version:
        raise HTTPException(503, "the engine of the bot service does not answer")
    return {"status": "ok", "version": info.version}


@app.get("/bots")
async def list_bots(
    bot_ids: BotIds,
    states: Annotated[list[State], Query(alias="state", default_factory=list)],
    labels: Annotated[
        list[Label], Query(alias="label", default_factory=list, description="NAME=VALUE; all must match")
    ],
) -> list[dict[str, Any]]:
    """The containers of all bots, or of those that match. One call of the service answers for any number of them."""
    request = pb.ListManagedContainersRequest(
        bot_ids=bot_ids,
        states=[state.value for state in states],
        labels=dict(label.split("=", 1) for label in labels),
    )
    answer = await app.state.manager.ListManagedContainers(request)
    return [MessageToDict(container) for container in answer.containers]


@app.get("/bots/{bot_id}")
async def get_bot(bot_id: str) -> dict[str, Any]:
    """The bot's container."""
    answer = await app.state.manager.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
    if not answer.HasField("status"):
        raise HTTPException(404, Failure(reason="CONTAINER_NOT_FOUND", message=f"bot {bot_id} has no container"))
    return MessageToDict(answer.status)


@app.post("/bots/{bot_id}", status_code=201)
async def create_bot(
    bot_id: str,
    config: Annotated[BotConfig, Body(default_factory=BotConfig)],
    idempotency_key: Annotated[str, Header(description="The same key returns the same container")] = "",
) -> dict[str, Any]:
    """Create the bot's container. Its secrets must be there, see ``PUT /bots/{bot_id}/secrets``."""
    request = pb.CreateContainerRequest(bot_id=bot_id, config=config.message(), request_id=idempotency_key)
    return MessageToDict(await app.state.manager.CreateContainer(request))


@app.post("/bots/{bot_id}/start")
async def start_bot(bot_id: str) -> None:
    """Start the bot. A failed start is not retried."""
    await app.state.manager.StartContainer(pb.StartContainerRequest(bot_id=bot_id))


@app.post("/bots/{bot_id}/stop")
async def stop_bot(bot_id: str, grace_seconds: GraceSeconds = None) -> None:
    """Stop the bot."""
    await app.state.manager.StopContainer(pb.StopContainerRequest(bot_id=bot_id, grace_period=_grace(grace_seconds)))


@app.post("/bots/{bot_id}/restart")
async def restart_bot(bot_id: str, grace_seconds: GraceSeconds = None) -> None:
    """Stop the bot and start it again."""
    request = pb.RestartContainerRequest(bot_id=bot_id, grace_period=_grace(grace_seconds))
    await app.state.manager.RestartContainer(request)


@app.delete("/bots/{bot_id}")
async def remove_bot(bot_id: str) -> None:
    """Remove the bot's container, if it has one. Its secrets and files stay."""
    await app.state.manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot_id))


@app.put("/bots/{bot_id}/secrets")
async def put_secrets(bot_id: str, secrets: Secrets) -> None:
    """Write secret files. The bot reads them when it starts, or when it is told to reload them."""
    await app.state.provisioner.PutSecrets(secrets.message(bot_id))


@app.get("/bots/{bot_id}/secrets")
async def list_secrets(bot_id: str) -> list[dict[str, Any]]:
    """Names, sizes and times of the secret files; never a value."""
    answer = await app.state.provisioner.ListSecrets(provisioner_pb.ListSecretsRequest(bot_id=bot_id))
    return [MessageToDict(secret) for secret in answer.secrets]


@app.post("/bots/{bot_id}/secrets/reload")
async def reload_secrets(bot_id: str, restart: bool = False) -> dict[str, Any]:
    """Have the running bot read its secrets anew. With ``restart``, restart it if it cannot."""
    modes = provisioner_pb.ReloadSecretsRequest
    mode = modes.MODE_RELOAD_OR_RESTART if restart else modes.MODE_RELOAD
    answer = await app.state.provisioner.ReloadSecrets(modes(bot_id=bot_id, mode=mode))
    return MessageToDict(answer)


@app.delete("/bots/{bot_id}/secrets")
async def delete_secrets(bot_id: str, name: Annotated[list[str], Query(default_factory=list)]) -> None:
    """Remove these secret files; without a name all of them, once the bot has no container."""
    await app.state.provisioner.DeleteSecrets(provisioner_pb.DeleteSecretsRequest(bot_id=bot_id, names=name))


@app.put("/bots/{bot_id}/files/{path:path}", openapi_extra=ANY_BYTES)
async def put_file(bot_id: str, path: str, request: Request) -> None:
    """Write a file of at most 1 MiB below the bot's state directory, such as ``workspace/AGENTS.md``."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MAX_FILE_BYTES:
            raise HTTPException(413, f"a file has at most {MAX_FILE_BYTES} bytes")
    files = provisioner_pb.PutFilesRequest(bot_id=bot_id, files={path: content})
    await app.state.provisioner.PutFiles(files)


@app.delete("/bots/{bot_id}/state")
async def delete_state(bot_id: str) -> None:
    """Remove all files of the bot, once it has no container."""
    await app.state.provisioner.DeleteState(provisioner_pb.DeleteStateRequest(bot_id=bot_id))


@app.get("/stats")
async def stats(bot_ids: BotIds) -> list[dict[str, Any]]:
    """The resource use of all running bots, or of these, a few seconds old at most."""
    answer = await app.state.observer.GetStats(observer_pb.GetStatsRequest(bot_ids=bot_ids))
    return [MessageToDict(container) for container in answer.containers]


@app.get("/bots/{bot_id}/logs")
async def bot_logs(
    bot_id: str, follow: bool = False, tail: Annotated[int | None, Query(ge=0, lt=2**32)] = None
) -> StreamingResponse:
    """The bot's log, standard output and standard error together."""
    request = observer_pb.StreamLogsRequest(bot_id=bot_id, follow=follow, tail_lines=tail)
    return StreamingResponse(await read_log(app.state.observer, request), media_type="text/plain; charset=utf-8")


@app.get("/events")
async def events(bot_ids: BotIds, last_event_id: Annotated[str, Header()] = "") -> StreamingResponse:
    """The current statuses, then every change, as server-sent events; of these bots only, if any are named."""
    headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    body = app.state.events.read(last_event_id, set(bot_ids))
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


def _grace(seconds: int | None) -> Duration | None:
    return None if seconds is None else Duration(seconds=seconds)
