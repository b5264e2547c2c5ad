# ruff: noqa: ARG002 - the methods are the client's
"""A swarm in memory, in place of a :class:`container_manager.engine.swarm.SwarmClient`, whose tasks a test moves on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

from container_manager.engine.transport_errors import EngineRejectedError
from tests.unit.swarm_documents import DIGEST, NODES

Json = dict[str, Any]


class SwarmWorld:
    """Services, and tasks that take the next step of their script each time they are listed."""

    def __init__(self) -> None:
        self.services: dict[str, Json] = {}
        self.tasks: dict[str, Json] = {}
        self.nodes = copy.deepcopy(NODES)
        for node in self.nodes.values():
            node["Spec"] = {"Role": "worker", "Availability": "active"}
            node["Description"]["Engine"] = {"EngineVersion": "28.5.1"}
        self.script: list[Json] = [{"State": "running", "ContainerStatus": {"ContainerID": "c1", "PID": 7}}]
        """What the task of the next start shows, one after another; the last one stays."""
        self.at_stop: list[Json | None] = [
            {"State": "shutdown", "ContainerStatus": {"ContainerID": "c1", "ExitCode": 143}},
            None,
        ]
        """What a task shows once it is not wanted any more; ``None``: it is forgotten."""
        self.log = b""
        self.faults: list[Exception] = []
        """Outcomes of the next calls of any kind."""
        self.conflicts = 0
        """How many updates come too late."""
        self.registry_auths: list[str | None] = []
        """The credentials of each update, with which nodes pull from now on; ``None``: as before."""
        self.on_create: Callable[[Json], None] = lambda _: None
        self.on_update: Callable[[], object] = lambda: None
        self.calls: list[str] = []
        self._lock = threading.RLock()
        self._index = 0

    # The engine's calls, in the client's words.

    def list_services(self, deadline: object, **filters: Any) -> list[Json]:
        wanted = [each.partition("=") for each in filters.get("label", ())]
        with self._call("list_services"):
            return [
                copy.deepcopy(each)
                for each in self.services.values()
                if all(each["Spec"]["Labels"].get(key) == value for key, _, value in wanted)
            ]

    def inspect_service(self, name_or_id: str, deadline: object) -> Json | None:
        with self._call("inspect_service"):
            found = (each for each in self.services.values() if name_or_id in (each["ID"], each["Spec"]["Name"]))
            return copy.deepcopy(next(found, None))

    def create_service(self, body: Json, registry_auth: str | None = None) -> str:
        with self._call("create_service"):
            if any(each["Spec"]["Name"].lower() == body["Name"].lower() for each in self.services.values()):
                raise EngineRejectedError(409, "name conflicts with an existing object")
            self.on_create(body)
            return self.add(body)

    def update_service(self, document: Json, spec: Json, registry_auth: str | None = None) -> bool:
        with self._call("update_service"):
            self.on_update()
            service = self.services.get(document["ID"])
            if service is None:
                raise EngineRejectedError(404, "service not found")
            if self.conflicts or service["Version"] != document["Version"]:
                self.conflicts = max(0, self.conflicts - 1)
                service["Version"] = {"Index": self._next()}
                return False
            self.registry_auths.append(registry_auth)
            service["Version"] = {"Index": self._next()}
            before, after = (each["Mode"]["Replicated"]["Replicas"] for each in (service["Spec"], spec))
            service["Spec"] = copy.deepcopy(spec)
            if after > before:
                self.start(service)
            elif after < before:
                self.end(service["ID"])
            elif after == 0:
                # As swarmkit's orchestrator does with every task that is to end.
                self.tasks = {key: task for key, task in self.tasks.items() if task["ServiceID"] != service["ID"]}
            return True

    def remove_service(self, service_id: str) -> bool:
        with self._call("remove_service"):
            if service_id not in self.services:
                return False
            tasks = (task for task in self.tasks.values() if task["ServiceID"] == service_id)
            assert not any(task["DesiredState"] == "remove" for task in tasks), "the leader's engine crashes"
            self.end(service_id)
            del self.services[service_id]
            return True

    def list_tasks(self, deadline: object, **filters: Any) -> list[Json]:
        with self._call("list_tasks"):
            for key, task in list(self.tasks.items()):
                script: Iterator[Json | None] = task["script"]
                step = next(script, task["Status"])
                if step is None:
                    del self.tasks[key]
                else:
                    task["Status"] = {"Timestamp": "2026-01-01T00:01:00Z", **step}
            return [
                {key: copy.deepcopy(value) for key, value in task.items() if key != "script"}
                for task in self.tasks.values()
            ]

    def list_nodes(self, deadline: object) -> list[Json]:
        with self._call("list_nodes"):
            return copy.deepcopy(list(self.nodes.values()))

    def update_node(self, document: Json, spec: Json) -> bool:
        with self._call("update_node"):
            self.nodes[document["ID"]]["Spec"] = copy.deepcopy(spec)
            return True

    def task_log(self, task_id: str, tail: int, deadline: object) -> bytes:
        return self.log

    def distribution(self, image: str, registry_auth: object, deadline: object) -> Json:
        with self._call("distribution"):
            return {"Descriptor": {"digest": DIGEST}}

    # What tests do.

    def add(self, body: Json) -> str:
        """A service with this specification; its id."""
        key = f"service{self._next()}"
        created = f"2026-01-01T00:00:{self._index % 60:02}Z"
        self.services[key] = {
            "ID": key,
            "Version": {"Index": self._next()},
            "CreatedAt": created,
            "Spec": copy.deepcopy(body),
        }
        return key

    def start(self, service: Json) -> None:
        """Make a task of the service, which takes the steps of the script."""
        number = self._next()
        self.tasks[f"task{number}"] = {
            "ID": f"task{number}",
            "ServiceID": service["ID"],
            "CreatedAt": f"2026-01-01T01:{number // 60:02}:{number % 60:02}Z",
            "NodeID": "node1",
            "Spec": copy.deepcopy(service["Spec"]["TaskTemplate"]),
            "DesiredState": "running",
            "Status": {"State": "new"},
            "script": iter(list(self.script)),
        }

    def end(self, service_id: str) -> None:
        """Let the tasks of the service end."""
        for task in self.tasks.values():
            if task["ServiceID"] == service_id:
                task |= {"DesiredState": "remove", "script": iter(list(self.at_stop))}

    @property
    def replicas(self) -> int:
        """How many containers the only service is to have."""
        (service,) = self.services.values()
        return int(service["Spec"]["Mode"]["Replicated"]["Replicas"])

    def set_node(self, node_id: str, state: str) -> None:
        """Let the manager hear of the node, or not."""
        self.nodes[node_id]["Status"] = {"State": state}

    def _call(self, name: str) -> Any:
        self.calls.append(name)
        if self.faults:
            raise self.faults.pop(0)
        return self._lock

    def _next(self) -> int:
        self._index += 1
        return self._index


class NoSecrets:
    """Bots with none."""

    def references(self, bot_id: str) -> list[Json]:
        return []

    def remove_unused(self, bot_id: str) -> None:
        """There are none."""
