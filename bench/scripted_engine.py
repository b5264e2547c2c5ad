"""An engine whose containers do not exist: enough of the API for the service, and nothing to wait for.

It has any number of containers from its start, so that what thousands of them cost the service can be measured without
running any, and it carries out whole lifecycles, for smoke runs. In its documents, marks such as ``@ID@`` stand for
what differs between containers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from bench.engine_http import BOT, MANAGED, container_name
from bench.processes import Server

LOG_LINES = 200
LAST_LINE = "that is all"
_API_VERSION = "1.41"
_FIRST_CREATED_NS = 1_790_000_000_000_000_000
_NEVER = "0001-01-01T00:00:00Z"
_STOP_SECONDS = 0.2
_ID, _TIME, _SECONDS, _STATE, _RUNNING, _PAUSED = "@ID@", "@TIME@", "@SECONDS@", "@STATE@", "@RUNNING@", "@PAUSED@"
_LABELS = {"botmaker.managed": "true", "botmaker.bot-id": BOT}
_CHANGES = {
    "start": ("running", "start"),
    "stop": ("exited", "die", "stop"),
    "pause": ("paused", "pause"),
    "unpause": ("running", "unpause"),
    "remove": ("removed", "destroy"),
}
_DIRECTORY = {"name": "bin", "size": 1, "mode": 1 << 31 | 0o755, "mtime": _NEVER, "linkTarget": ""}
_EXECUTABLE = {"name": "sleep", "size": 1, "mode": 0o755, "mtime": _NEVER, "linkTarget": ""}


def bot_ids(count: int) -> list[str]:
    """The bots whose containers an engine of this size has from its start."""
    return [str(uuid.UUID(int=number, version=4)) for number in range(count)]


def templates(document: dict[str, Any], row: dict[str, Any], bot_id: str) -> str:
    """What an engine shows of a running container, with the marks."""
    state = {**document["State"], "Status": _STATE, "Running": _RUNNING, "Paused": _PAUSED}
    texts = document | {"Created": _TIME, "State": state}, row | {"Created": _SECONDS, "State": _STATE}
    return json.dumps([json.loads(_packed(t).replace(document["Id"], _ID).replace(bot_id, BOT)) for t in texts])


@dataclass
class _Container:
    container_id: str
    bot_id: str
    created_ns: int
    document: str
    row: str
    state: str = "running"


class ScriptedEngine(Server):
    """The engine, on a unix socket."""

    def __init__(self, socket: str, count: int, documents: str = "") -> None:
        """``count``: how many containers it has; ``documents``: from :func:`templates`, if not its own."""
        shown: tuple[dict[str, Any], dict[str, Any]] = json.loads(documents) if documents else _default_templates()
        self._document, self._row = shown
        self._containers: dict[str, _Container] = {}
        self._ids: dict[str, str] = {}
        self._whole_list = b""
        self._subscribers: list[asyncio.Queue[bytes]] = []
        texts = _packed(self._document), _packed(self._row)
        for number, bot_id in enumerate(bot_ids(count)):
            self._add(_Container(f"{number:064x}", bot_id, _FIRST_CREATED_NS + number * 1_000_000_001, *texts))
        super().__init__(socket)

    @asynccontextmanager
    async def serving(self, socket: str) -> AsyncIterator[None]:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.01)
        await runner.setup()
        await web.UnixSite(runner, socket, backlog=1000).start()
        yield
        await runner.cleanup()

    def _find(self, key: str) -> _Container | None:
        return self._containers.get(self._ids.get(key, key))

    def _create(self, name: str, body: dict[str, Any]) -> str:
        host = self._document["HostConfig"] | body.pop("HostConfig")
        config = self._document["Config"] | body
        document = self._document | {"Config": config, "HostConfig": host}
        row = self._row | {"Image": body["Image"], "Labels": body["Labels"]}
        bot_id = name.removeprefix("botmaker-")
        made = _Container(uuid.uuid4().hex * 2, bot_id, time.time_ns(), _packed(document), _packed(row), "created")
        self._add(made)
        self._tell(made, "create")
        return made.container_id

    def _change(self, container: _Container, state: str, *actions: str) -> None:
        container.state = state
        self._whole_list = b""
        if state == "removed":
            del self._containers[container.container_id], self._ids[container_name(container.bot_id)]
        for action in actions:
            self._tell(container, action)

    def _listed(self, filters: dict[str, list[str]]) -> bytes:
        labels = [label for label in filters.get("label", ()) if label != MANAGED]
        if not labels and "id" not in filters:
            self._whole_list = self._whole_list or self._rows(self._containers.values())
            return self._whole_list
        marks = ['"{}":"{}"'.format(*label.partition("=")[::2]) for label in labels]
        ids = filters.get("id", self._containers)
        found = [c for c in self._containers.values() if c.container_id in ids and all(m in c.row for m in marks)]
        return self._rows(found)

    def _add(self, container: _Container) -> None:
        self._containers[container.container_id] = container
        self._ids[container_name(container.bot_id)] = container.container_id
        self._whole_list = b""

    def _tell(self, container: _Container, action: str) -> None:
        attributes = _LABELS | {"botmaker.bot-id": container.bot_id}
        actor, now = {"ID": container.container_id, "Attributes": attributes}, time.time_ns()
        event = {"Type": "container", "Action": action, "Actor": actor, "time": now // 10**9, "timeNano": now}
        for subscriber in self._subscribers:
            subscriber.put_nowait(_packed(event).encode() + b"\n")

    def _rows(self, containers: Any) -> bytes:
        return ("[" + ",".join(self._filled(container.row, container) for container in containers) + "]").encode()

    def _filled(self, text: str, container: _Container) -> str:
        paused, runs = container.state == "paused", container.state in ("running", "paused")
        return (
            text.replace(_ID, container.container_id)
            .replace(BOT, container.bot_id)
            .replace(_TIME, _timestamp(container.created_ns))
            .replace(f'"{_SECONDS}"', str(container.created_ns // 10**9))
            .replace(_STATE, container.state)
            .replace(f'"{_RUNNING}"', "true" if runs else "false")
            .replace(f'"{_PAUSED}"', "true" if paused else "false")
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        match re.sub(r"^/v1\.\d+", "", request.path).split("/")[1:]:
            case ["events"]:
                response = web.StreamResponse()
                await response.prepare(request)
                self._subscribers.append(events := asyncio.Queue[bytes]())
                with suppress(ConnectionResetError):
                    while True:
                        await response.write(await events.get())
                return response
            case ["version" | "_ping"]:
                return _json({"Version": "scripted", "ApiVersion": _API_VERSION})
            case ["containers", "json"]:
                return web.Response(body=self._listed(json.loads(query.get("filters", "{}"))))
            case ["containers", "create"]:
                return _json({"Id": self._create(query["name"], await request.json())}, 201)
            case ["containers", key, *verb] if (container := self._find(key)) is not None:
                return await self._act(container, verb[0] if verb else "remove", query)
        return _json({"message": f"No such container: {request.path}"}, 404)

    async def _act(self, container: _Container, verb: str, query: Mapping[str, str]) -> web.Response:
        match verb:
            case "json":
                return web.Response(body=self._filled(container.document, container).encode())
            case "archive":
                found = _EXECUTABLE if query["path"].endswith("/sleep") else _DIRECTORY
                stat = base64.b64encode(_packed(found).encode()).decode()
                return web.Response(headers={"X-Docker-Container-Path-Stat": stat})
            case "logs":
                return web.Response(body=_log(query.get("tail", "all")))
            case "stats":
                used = {"cpu_usage": {"total_usage": time.process_time_ns()}, "online_cpus": 2}
                return _json(
                    {"read": _timestamp(time.time_ns()), "cpu_stats": used, "memory_stats": {"usage": 1 << 26}}
                )
        if query.get("t", "0") != "0":
            await asyncio.sleep(_STOP_SECONDS)
        self._change(container, *_CHANGES[verb])
        return web.Response(status=204)


def _log(tail: str) -> bytes:
    """The lines, each in a frame (Docker Engine API, "Attach to a container")."""
    lines = [f"line {number}" for number in range(LOG_LINES - 1)] + [LAST_LINE]
    log = b""
    for number, line in enumerate(lines[-int(tail) :] if tail.isdigit() else lines):
        data = f"2026-09-21T14:13:20.{number:09d}Z {line}\n".encode()
        log += struct.pack(">BxxxI", 1, len(data)) + data
    return log


def _default_templates() -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that the service reads."""
    state = {"Status": _STATE, "Running": _RUNNING, "Paused": _PAUSED, "Restarting": False, "OOMKilled": False}
    state |= {"ExitCode": 0, "Error": "", "StartedAt": _TIME, "FinishedAt": _NEVER}
    image = {"Image": "botmaker/openclaw:1", "Labels": _LABELS}
    config = {**image, "Tty": False, "Env": [], "Cmd": ["sleep"]}
    log = {"LogConfig": {"Type": "json-file", "Config": {}}}
    document: dict[str, Any] = {
        "Id": _ID,
        "Name": f"/botmaker-{BOT}",
        "Created": _TIME,
        "State": state,
        "Config": config,
    }
    document |= {"Image": "sha256:" + "5c" * 32, "Path": "sleep", "RestartCount": 0, "HostConfig": log}
    row = {"Id": _ID, "Names": [f"/botmaker-{BOT}"], "ImageID": document["Image"], "Created": _SECONDS, "State": _STATE}
    return document | {"NetworkSettings": {"Ports": {}}, "Mounts": []}, row | image


def _timestamp(time_ns: int) -> str:
    seconds, nanoseconds = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def _json(document: Any, status: int = 200) -> web.Response:
    return web.Response(text=_packed(document), status=status, headers={"Api-Version": _API_VERSION})


def _packed(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))
