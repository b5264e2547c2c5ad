"""A manager of a swarm whose bots do not exist: the lists that are polled, as large as a real one's.

As a program: ``python -m bench.scripted_manager SOCKET BOTS ENDED CHANGES``. Each bot runs on one of three nodes and
has ``ENDED`` earlier tasks. So many of the running tasks change each second, one after another.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from functools import partial
from typing import Any

from aiohttp import web

from bench.scripted_engine import bot_ids
from container_manager.backends.swarm import records
from container_manager.backends.swarm.service_spec import Placement, service_body
from container_manager.engine.timestamps import time_ns
from container_manager.model import ContainerConfig, ResourceLimits

_API_VERSION = "1.41"
_DIGEST = "sha256:" + "5c" * 32
_TIME = "2026-09-21T14:13:20.{:09d}Z"
_ID_DIGITS = 25
_NODES = 3


class _Manager:
    """The lists, each item as the bytes that are sent."""

    def __init__(self, bots: int, ended: int) -> None:
        self.nodes = [_packed(_node(number)) for number in range(_NODES)]
        self.services: list[bytes] = []
        self.tasks: list[bytes] = []
        self._running: list[tuple[int, dict[str, Any]]] = []
        self._turn = 0
        for number, bot_id in enumerate(bot_ids(bots)):
            service = _service(number, bot_id, ended)
            self.services.append(_packed(service))
            for run in range(ended + 1):
                task = _task(number, run, service, ended=run < ended)
                if run == ended:
                    self._running.append((len(self.tasks), task))
                self.tasks.append(_packed(task))
        self._bodies: dict[str, bytes] = {}

    def body(self, what: str) -> bytes:
        """One of the lists."""
        if what not in self._bodies:
            items = {"services": self.services, "tasks": self.tasks, "nodes": self.nodes}[what]
            self._bodies[what] = b"[" + b",".join(items) + b"]"
        return self._bodies[what]

    def change(self) -> None:
        """Change the next running task."""
        place, task = self._running[self._turn % len(self._running)]
        self._turn += 1
        task["Version"]["Index"] += 1
        task["UpdatedAt"] = task["Status"]["Timestamp"] = _TIME.format(self._turn)
        self.tasks[place] = _packed(task)
        self._bodies.pop("tasks", None)

    def find(self, service_id: str) -> bytes | None:
        """A service."""
        place = int(service_id) if service_id.isdigit() else -1
        return self.services[place] if 0 <= place < len(self.services) else None

    def tasks_of(self, service_id: str) -> bytes:
        """The tasks of a service."""
        count = len(self.tasks) // len(self.services)
        first = int(service_id) * count
        return b"[" + b",".join(self.tasks[first : first + count]) + b"]"


def _service(number: int, bot_id: str, ended: int) -> dict[str, Any]:
    config = ContainerConfig(
        ai_provider="anthropic",
        ai_model="claude-sonnet-4-5",
        channel_type="telegram",
        environment={"TZ": "Europe/Berlin", "LOG_LEVEL": "info"},
        resources=ResourceLimits(memory_bytes=2 << 30, nano_cpus=10**9, pids_limit=512),
        hostname=f"bot-{number}",
        labels={"team": "support"},
    )
    mount = {"Type": "bind", "Source": f"/srv/botmaker/state/{bot_id}", "Target": "/home/node/.openclaw"}
    secrets = [
        {
            "File": {"Name": name, "UID": "1000", "GID": "1000", "Mode": 0o400},
            "SecretID": f"{number:0{_ID_DIGITS}}",
            "SecretName": f"botmaker-{bot_id}-1-{name}",
        }
        for name in ("GATEWAY_TOKEN", "ANTHROPIC_API_KEY", "TELEGRAM_TOKEN")
    ]
    body = service_body(
        bot_id,
        config,
        image=f"registry.example/botmaker/openclaw:2026.9.6@{_DIGEST}",
        requested_image="registry.example/botmaker/openclaw:2026.9.6",
        request_id=f"request-{number}",
        create_id=f"{number:032x}",
        stop_seconds=10,
        placement=Placement(mounts=[mount]),
        secrets=secrets,
    )
    spec = records.confirmed(records.started(body, 0))
    # A service counts ended tasks.
    spec = records.counted(spec, records.Counted(ended, time_ns(_TIME.format(ended - 1)) or 0)) if ended else spec
    return {
        "ID": f"{number:0{_ID_DIGITS}}",
        "Version": {"Index": 100 + number},
        "CreatedAt": _TIME.format(0),
        "UpdatedAt": _TIME.format(number),
        "Spec": spec,
        "PreviousSpec": body,
        "Endpoint": {"Spec": {}},
    }


def _task(number: int, run: int, service: dict[str, Any], *, ended: bool) -> dict[str, Any]:
    container = {"ContainerID": f"{number:060x}{run:04x}", "PID": 0 if ended else 4242, "ExitCode": int(ended)}
    status = {"Timestamp": _TIME.format(run), "State": "failed" if ended else "running", "Message": "started"}
    network = {
        "ID": "n" * _ID_DIGITS,
        "Version": {"Index": 7},
        "CreatedAt": _TIME.format(0),
        "Spec": {"Name": "bridge"},
    }
    return {
        "ID": f"{number:0{_ID_DIGITS - 2}}{run:02}",
        "Version": {"Index": 1000 + number},
        "CreatedAt": _TIME.format(run),
        "UpdatedAt": _TIME.format(run),
        "Labels": {},
        "Spec": {**service["Spec"]["TaskTemplate"], "ForceUpdate": 0},
        "ServiceID": service["ID"],
        "Slot": 1,
        "NodeID": f"{number % _NODES:0{_ID_DIGITS}}",
        "Status": {**status, "ContainerStatus": container, "PortStatus": {}},
        "DesiredState": "shutdown" if ended else "running",
        "NetworksAttachments": [{"Network": network, "Addresses": ["172.17.0.2/16"]}],
    }


def _node(number: int) -> dict[str, Any]:
    return {
        "ID": f"{number:0{_ID_DIGITS}}",
        "Version": {"Index": number},
        "Spec": {"Labels": {}, "Role": "worker", "Availability": "active"},
        "Description": {"Hostname": f"machine-{number}", "Engine": {"EngineVersion": "20.10.24"}},
        "Status": {"State": "ready", "Addr": f"10.0.0.{number}"},
    }


def _packed(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


async def _answer(manager: _Manager, request: web.Request) -> web.StreamResponse:
    filters = json.loads(request.query.get("filters", "{}"))
    match re.sub(r"^/v1\.\d+", "", request.path).split("/")[1:]:
        case ["version"]:
            return web.Response(body=_packed({"Version": "scripted", "ApiVersion": _API_VERSION}))
        case ["tasks"] if "service" in filters:
            return web.Response(body=manager.tasks_of(filters["service"][0]))
        case ["services" | "tasks" | "nodes" as what]:
            return web.Response(body=manager.body(what))
        case ["services", key] if (found := manager.find(key)) is not None:
            return web.Response(body=found)
    return web.Response(body=_packed({"message": f"not found: {request.path}"}), status=404)


async def _serve(socket: str, manager: _Manager, changes: float) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    runner = web.ServerRunner(web.Server(partial(_answer, manager)))
    await runner.setup()
    await web.UnixSite(runner, socket, backlog=100).start()
    print("manager serving", flush=True)
    while not asked.is_set():
        try:
            async with asyncio.timeout(1 / changes if changes else None):
                await asked.wait()
        except TimeoutError:
            manager.change()


if __name__ == "__main__":
    _, _socket, *_numbers = sys.argv
    _bots, _ended, _changes = map(int, _numbers)
    asyncio.run(_serve(_socket, _Manager(_bots, _ended), _changes))
