"""An engine with any number of containers that do not exist: enough of the API to follow it, and nothing to wait for.

It answers ``/version``, ``/_ping``, ``/containers/json`` (by ``id``, ``label``), ``/containers/{id or name}/json``,
``POST …/pause`` and ``…/unpause``, and ``/events``, which tells of those two. A request costs it some 50 µs, so that it
is not what is measured. As a program: ``python -m bench.large_engine SOCKET CONTAINERS``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bench.belongings import Belongings
from bench.large_documents import inspect_document, list_row
from bench.served_process import ServedProcess
from container_manager.backends.docker.spec import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.model import container_name

_API_VERSION = "1.41"
_FIRST_CREATED = 1_790_000_000
_CONTAINER = re.compile(r"/containers/([^/]+)/(json|pause|unpause)")


def bot_ids(count: int) -> list[str]:
    """The bots whose containers an engine of this size has."""
    return [str(uuid.UUID(bytes=_digest(number)[:16], version=4)) for number in range(count)]


def documents(count: int) -> list[bytes]:
    """What an engine of this size answers to the inspections of its containers."""
    engine = _Engine(count)
    return [engine.inspect(_digest(number).hex()) for number in range(count)]


class LargeEngineProcess(ServedProcess):
    """A running engine with ``count`` containers."""

    def __init__(self, belongings: Belongings, count: int) -> None:
        socket = belongings.scratch / f"engine-{count}.sock"
        command = [sys.executable, "-m", "bench.large_engine", str(socket), str(count)]
        super().__init__(socket, command, belongings.scratch / f"engine-{count}.log")


class _Engine:
    """The containers, as bytes that only need their ids put in."""

    def __init__(self, count: int) -> None:
        bots = bot_ids(count)
        self._bots = {_digest(number).hex(): bot_id for number, bot_id in enumerate(bots)}
        self._ids = {container_name(bot_id): container_id for container_id, bot_id in self._bots.items()}
        self._created = {container_id: _FIRST_CREATED + number for number, container_id in enumerate(self._bots)}
        self._paused: set[str] = set()
        self._document = json.dumps(inspect_document(), separators=(",", ":"))
        self._row = json.dumps(list_row(), separators=(",", ":"))
        self._whole_list = b""
        self.listeners: set[asyncio.Transport] = set()

    def listed(self, query: str) -> bytes:
        """The rows that the filters let through."""
        filters = json.loads(parse_qs(query).get("filters", ["{}"])[0])
        if "id" in filters:
            return self._rows([key for key in filters["id"] if key in self._bots])
        if filters.get("label", [f"{LABEL_MANAGED}=true"]) != [f"{LABEL_MANAGED}=true"]:
            return b"[]"
        self._whole_list = self._whole_list or self._rows(list(self._bots))
        return self._whole_list

    def find(self, key: str) -> str | None:
        """The id of a container, by its name or id."""
        return key if key in self._bots else self._ids.get(key)

    def inspect(self, container_id: str) -> bytes:
        """The container's document."""
        return self._filled(self._document, container_id).encode()

    def pause(self, container_id: str, *, paused: bool) -> None:
        """Do so, and tell."""
        (self._paused.add if paused else self._paused.discard)(container_id)
        self._whole_list = b""
        labels = {LABEL_MANAGED: "true", LABEL_BOT_ID: self._bots[container_id]}
        now = time.time_ns()
        event = {
            "Type": "container",
            "Action": "pause" if paused else "unpause",
            "Actor": {"ID": container_id, "Attributes": labels},
            "time": now // 1_000_000_000,
            "timeNano": now,
        }
        line = json.dumps(event).encode() + b"\n"
        for listener in self.listeners:
            listener.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _rows(self, ids: list[str]) -> bytes:
        return ("[" + ",".join(self._filled(self._row, container_id) for container_id in ids) + "]").encode()

    def _filled(self, text: str, container_id: str) -> str:
        created = self._created[container_id]
        moment = datetime.fromtimestamp(created, UTC)
        paused = container_id in self._paused
        return (
            text.replace("@ID@", container_id)
            .replace("@BOT@", self._bots[container_id])
            .replace("@TIME@", f"{moment:%Y-%m-%dT%H:%M:%S}.{created % 999_999_999:09d}Z")
            .replace('"@SECONDS@"', str(created))
            .replace("@STATE@", "paused" if paused else "running")
            .replace('"@PAUSED@"', "true" if paused else "false")
        )


class _Connection(asyncio.Protocol):
    """HTTP/1.1, as far as the SDK, aiohttp and the standard library speak it to an engine."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _exc: Exception | None) -> None:
        self._engine.listeners.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            # None of the requests has a body.
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            self._answer(method, re.sub(r"^/v1\.\d+", "", target))

    def _answer(self, method: str, target: str) -> None:
        path, query = urlsplit(target).path, urlsplit(target).query
        if path == "/events":
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            self._engine.listeners.add(self._transport)
        elif path == "/version":
            self._send(200, json.dumps({"Version": "large", "ApiVersion": _API_VERSION}).encode())
        elif path == "/_ping":
            self._send(200, b"" if method == "HEAD" else b"OK", "text/plain")
        elif path == "/containers/json":
            self._send(200, self._engine.listed(query))
        else:
            self._answer_of_container(unquote(path))

    def _answer_of_container(self, path: str) -> None:
        match = _CONTAINER.fullmatch(path)
        container_id = self._engine.find(match[1]) if match else None
        if match is None or container_id is None:
            self._send(404, json.dumps({"message": f"No such container: {path}"}).encode())
        elif match[2] == "json":
            self._send(200, self._engine.inspect(container_id))
        else:
            self._engine.pause(container_id, paused=match[2] == "pause")
            self._send(204, b"")

    def _send(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} -\r\nApi-Version: {_API_VERSION}\r\nContent-Type: {content_type}\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _digest(number: int) -> bytes:
    return hashlib.sha256(b"container %d" % number).digest()


async def _serve(socket: str, count: int) -> None:
    engine = _Engine(count)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    await loop.create_unix_server(lambda: _Connection(engine), socket, backlog=1000)
    print("engine serving", flush=True)
    await asked.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
