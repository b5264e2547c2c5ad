"""A swarm's manager in memory: services, tasks and nodes as documents, and what an ``AsyncEngineClient`` has of them.

    swarm = ScriptedSwarm()
    swarm.add(bot_id)
    swarm.run(bot_id, "running")
    source = SwarmSource(swarm)

It stands in for the client, so that a test may use a virtual clock.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

from container_manager.backends.swarm import records
from container_manager.backends.swarm.service_spec import Placement, service_body
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import ContainerConfig, RawEntry
from tests.unit.log_engine import frame, last_of

Json = dict[str, Any]
LISTS = ("/tasks", "/services", "/nodes")


class ScriptedSwarm:
    """In place of :class:`container_manager.engine.async_client.AsyncEngineClient`."""

    def __init__(self, nodes: int = 3) -> None:
        self.services: dict[str, Json] = {}
        self.tasks: dict[str, Json] = {}
        self.nodes = {f"node{n}": _node(n) for n in range(1, nodes + 1)}
        self.requests: list[tuple[float, str]] = []
        """The loop's time and the path of each request."""
        self.fault: Exception | None = None
        """The outcome of every request."""
        self.seconds = 0.0
        """The duration of a request."""
        self.spoiled: dict[str, bytes] = {}
        """Answers to requests for lists, by their paths."""
        self.logs: dict[str, list[RawEntry]] = defaultdict(list)
        """What tasks have written."""
        self.silent: set[str] = set()
        """Nodes that send nothing any more, and that the manager has not missed yet."""
        self.late: set[str] = set()
        """Nodes that have booted and do not send logs yet. A request that follows is never answered, also not later."""
        self.streams: list[tuple[str, Json]] = []
        """The requests for logs: the task and the parameters."""
        self._index = 0
        self._stirred = asyncio.Condition()

    def add(self, bot_id: str, config: ContainerConfig | None = None, *, hosted: str = "", **spec: Any) -> str:
        """Create a bot's service; its id. ``hosted``: pinned to this node. ``spec``: fields of the specification."""
        body = service_body(
            bot_id,
            config or ContainerConfig(),
            image="registry.test/bot:1@sha256:" + "ab" * 32,
            requested_image="registry.test/bot:1",
            request_id="",
            create_id="c",
            stop_seconds=10,
            placement=Placement(constraints=[f"node.id=={hosted}"] if hosted else ()),
            secrets=(),
        )
        key = f"service{self._tick()}"
        now = self._now()
        document = {"ID": key, "Version": {"Index": self._index}, "CreatedAt": now, "UpdatedAt": now}
        self.services[key] = {**document, "Spec": {**body, **spec}}
        return key

    def update(self, key: str, **spec: Any) -> None:
        """Change a service's specification."""
        service = self.services[key]
        self._touch(service)
        service["Spec"] = {**service["Spec"], **spec}

    def run(self, key: str, state: str = "running", node: str = "node1", **status: Any) -> str:
        """Give a service with one replica a new task; its id."""
        self.update(key, **records.started(self.services[key]["Spec"], 0))
        task_id, now = f"task{self._tick():04}", self._now()
        self.tasks[task_id] = {
            "ID": task_id,
            "Version": {"Index": self._index},
            "CreatedAt": now,
            "UpdatedAt": now,
            "Spec": deepcopy(self.services[key]["Spec"]["TaskTemplate"]),
            "ServiceID": key,
            "NodeID": node,
            "DesiredState": "running",
            "Status": {"State": state, "Timestamp": now, **status},
        }
        self.tasks[task_id]["Spec"]["ContainerSpec"]["Labels"]["botmaker.managed"] = "true"
        if state in ("starting", "running"):
            self.set(task_id, state)
        return task_id

    def set(self, task_id: str, state: str, **status: Any) -> None:
        """Have a task be in this state."""
        task = self.tasks[task_id]
        self._touch(task)
        container = {"ContainerID": f"c-{task_id}", "PID": 7 if state == "running" else 0, "ExitCode": 0}
        task["Status"] = {"State": state, "Timestamp": self._now(), "ContainerStatus": container, **status}

    def set_node(self, node: str, state: str) -> None:
        """Have a node be ``ready`` or ``down``."""
        self._touch(self.nodes[node])
        self.nodes[node]["Status"] = {"State": state}

    def remove(self, key: str, *, tasks: bool = True) -> None:
        """Remove a service, and its tasks if they have ended by now."""
        del self.services[key]
        if tasks:
            self.tasks = {name: task for name, task in self.tasks.items() if task["ServiceID"] != key}

    def asked(self, path: str) -> list[float]:
        """When this was asked for."""
        return [at for at, what in self.requests if what == path]

    async def get_bytes(self, path: str, params: Any = None, *, timeout_seconds: float | None = None) -> bytes:
        await self._answer(path, timeout_seconds)
        if path in self.spoiled:
            return self.spoiled[path]
        return json.dumps(list(self._listed(path, params)), separators=(",", ":")).encode()

    async def find_json(self, path: str, params: Any = None, *, timeout_seconds: float | None = None) -> Any:
        await self._answer(path, timeout_seconds)
        if path in LISTS:
            if set(_filters(params).get("service", ())) - self.services.keys():
                return None
            return deepcopy(list(self._listed(path, params)))
        return deepcopy(self.services.get(path.removeprefix("/services/")))

    async def write(self, task_id: str, *entries: RawEntry) -> None:
        """Have a task write these entries."""
        self.logs[task_id] += entries
        async with self._stirred:
            self._stirred.notify_all()

    @asynccontextmanager
    async def stream(self, path: str, params: Json) -> AsyncIterator[_LogStream]:
        task_id = path.split("/")[2]
        self.streams.append((task_id, params))
        if self.fault is not None:
            raise self.fault.with_traceback(None)
        if task_id not in self.tasks:
            raise EngineRejectedError(404, f"task {task_id} not found")
        yield _LogStream(self, task_id, params)

    def node_of(self, task_id: str) -> str:
        """The node of a task."""
        return str(self.tasks[task_id]["NodeID"])

    async def stirred(self) -> None:
        """Wait until a task writes something."""
        async with self._stirred:
            await self._stirred.wait()

    async def _answer(self, path: str, timeout_seconds: float | None) -> None:
        assert timeout_seconds is not None, "a manager without a leader holds requests"
        self.requests.append((asyncio.get_running_loop().time(), path))
        await asyncio.sleep(self.seconds)
        if self.fault is not None:
            raise self.fault.with_traceback(None)

    def _listed(self, path: str, params: Any) -> Iterator[Json]:
        filters = _filters(params)
        documents = {"/tasks": self.tasks, "/services": self.services, "/nodes": self.nodes}[path]
        for document in documents.values():
            labels = self._labels(document, path)
            wanted = [label.partition("=")[::2] for label in filters.get("label", ())]
            if all(labels.get(name) == value for name, value in wanted) and document.get("ServiceID") in filters.get(
                "service", [document.get("ServiceID")]
            ):
                yield document

    @staticmethod
    def _labels(document: Json, path: str) -> Json:
        spec: Json = document.get("Spec") or {}
        # The engine matches a task by the labels that its service had; the container's are enough here.
        holder = spec if path == "/services" else spec.get("ContainerSpec") or {}
        labels: Json = holder.get("Labels") or {}
        return labels

    def _touch(self, document: Json) -> None:
        document["Version"] = {"Index": self._tick()}
        document["UpdatedAt"] = self._now()

    def _tick(self) -> int:
        self._index += 1
        return self._index

    def _now(self) -> str:
        return f"2026-01-01T00:{self._index // 60:02}:{self._index % 60:02}.5Z"


class _LogStream:
    """The answer to a request for a task's log."""

    def __init__(self, swarm: ScriptedSwarm, task_id: str, params: Json) -> None:
        self._swarm = swarm
        self._task_id = task_id
        self._follow = "follow" in params
        tail = int(params["tail"]) if "tail" in params else None
        self._at = len(swarm.logs[task_id]) - len(last_of(swarm.logs[task_id], tail))
        self._failed = False
        self._unheard = self._node() in swarm.late

    def _node(self) -> str:
        return self._swarm.node_of(self._task_id) if self._task_id in self._swarm.tasks else ""

    async def read(self) -> bytes:
        """The next available bytes; empty at the end."""
        swarm, log = self._swarm, self._swarm.logs[self._task_id]
        while True:
            node = self._node()
            lost = self._unheard or (bool(node) and swarm.nodes[node]["Status"]["State"] == "down")
            if lost and not self._follow:
                return b"" if self._failed else self._fault(f"node {node} is not available")
            if self._at < len(log) and node not in swarm.silent and not lost:
                data = b"".join(map(frame, log[self._at :]))
                self._at = len(log)
                return data
            if not self._follow and node not in swarm.silent:
                return b""
            await swarm.stirred()

    def _fault(self, why: str) -> bytes:
        self._failed = True
        text = f"Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. {why}\n".encode()
        return struct.pack(">BxxxL", 3, len(text)) + text


def rejected() -> EngineRejectedError:
    """What an engine answers that is no manager."""
    return EngineRejectedError(503, "This node is not a swarm manager.")


def _filters(params: Any) -> dict[str, list[str]]:
    return json.loads((params or {}).get("filters", "{}"))


def _node(number: int) -> Json:
    return {
        "ID": f"node{number}",
        "Version": {"Index": 0},
        "Description": {"Hostname": f"machine-{number}"},
        "Status": {"State": "ready"},
    }
