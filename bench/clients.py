"""The ways to the engine that are compared: raw HTTP, the docker SDK, the service; and the floor, an empty service.

Each has the same operations by the same names and is used in the cheapest way that it offers. One client runs in one
process (:class:`bench.processes.Child`), inside a :class:`Timed`, so a client's own cost counts as that client's.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc

from bench.engine_http import BOT, MANAGED, RawEngine, container_name
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect

RAW, SDK, SERVICE, BARE, ECHO = "raw HTTP", "docker SDK", "service", "service, bare stub", "empty echo service"
TELEMETRY = "service with telemetry, bare stub"
MANAGER = "manager, raw HTTP"
STATUS_METHOD = "/botmaker.container.v1.ContainerManager/GetContainerStatus"
LIST_METHOD = "/botmaker.container.v1.ContainerManager/ListManagedContainers"
_BATCH_ENTRIES = 1000
_SYNC_SECONDS = 60
_POLL_SECONDS = 0.01

Json = dict[str, Any]


class Setting(NamedTuple):
    """What clients need to know."""

    docker_host: str
    target: str
    """The service's address."""
    request: bytes = b""
    """A CreateContainerRequest without a bot id."""
    body: str = ""
    """The engine's request for the same container, with :data:`~bench.engine_http.BOT` for the bot's id."""


class Timed:
    """A client whose operations are timed. The garbage collector rests meanwhile: its pauses are not the service's."""

    def __init__(self, client: type, setting: Setting) -> None:
        self._client = client(setting)
        gc.freeze()
        gc.disable()

    def each(self, operation: str, items: Sequence[str]) -> tuple[list[float], Any]:
        """Do it for each item, one after another: seconds of each, and the last result."""
        call = getattr(self._client, operation)
        seconds, result = [], None
        for item in items:
            begun = time.perf_counter()
            result = call(item)
            seconds.append(time.perf_counter() - begun)
        gc.collect(0)
        return seconds, result

    def steps(self, operations: Sequence[str], item: str) -> list[float]:
        """Do the operations in turn: seconds of each."""
        return [self.each(operation, [item])[0][0] for operation in operations]


class Raw:
    """HTTP and JSON of Python's standard library."""

    def __init__(self, setting: Setting) -> None:
        self._engine = RawEngine(setting.docker_host)
        self._body = setting.body

    def create(self, bot_id: str) -> None:
        self._engine.create(container_name(bot_id), self._body.replace(BOT, bot_id))

    def start(self, bot_id: str) -> None:
        self._engine.act(container_name(bot_id), "start")

    def stop(self, bot_id: str) -> None:
        self._engine.act(container_name(bot_id), "stop?t=0")

    def remove(self, bot_id: str) -> None:
        self._engine.remove(container_name(bot_id))

    def status(self, bot_id: str) -> None:
        self._engine.inspect(container_name(bot_id))

    def list(self, _item: str) -> int:
        return len(self._engine.list(MANAGED))

    def inspect_all(self, _item: str) -> int:
        """List, then inspect one after another: what a service must read to be in sync."""
        return len([self._engine.inspect(row["Id"]) for row in self._engine.list(MANAGED)])

    def read_log(self, bot_id: str) -> int:
        return sum(data.count(b"\n") for data in self._engine.log(container_name(bot_id)))


class RawManager:
    """The same for a swarm's manager, where a bot is a service and its tasks."""

    def __init__(self, setting: Setting) -> None:
        self._engine = RawEngine(setting.docker_host)
        self.close = self._engine.close

    def start(self, bot_id: str) -> None:
        """Give the bot a replica, and wait until it runs."""
        self.update(bot_id, with_replica)
        self.await_running(bot_id)

    def remove(self, bot_id: str) -> None:
        self._engine.send("DELETE", f"/services/{container_name(bot_id)}")

    def status(self, bot_id: str) -> None:
        self._engine.get(f"/services/{container_name(bot_id)}")
        self.tasks("service", container_name(bot_id))

    def list(self, _item: str) -> int:
        return len(self.services()) if self.tasks() else 0

    def services(self) -> Any:
        return self._engine.get("/services", label=[MANAGED])

    def tasks(self, by: str = "label", value: str = MANAGED) -> Any:
        return self._engine.get("/tasks", **{by: [value]})

    def await_running(self, bot_id: str) -> None:
        while not any(task["Status"]["State"] == "running" for task in self.tasks("service", container_name(bot_id))):
            time.sleep(_POLL_SECONDS)

    def update(self, bot_id: str, change: Callable[[Json], Json]) -> None:
        """Change the specification of the bot's service."""
        path = f"/services/{container_name(bot_id)}"
        document = self._engine.get(path)
        body = json.dumps(change(document["Spec"]))
        self._engine.send("POST", f"{path}/update?version={document['Version']['Index']}", body)


def with_replica(spec: Json) -> Json:
    """The specification of a service that is to run."""
    return {**spec, "Mode": {"Replicated": {"Replicas": 1}}}


class Sdk:
    """The docker SDK. Its low level makes containers from the body itself; its high level reads."""

    def __init__(self, setting: Setting) -> None:
        import docker

        self._client = docker.DockerClient(base_url=setting.docker_host, version="auto", timeout=120)
        self._body = setting.body

    def create(self, bot_id: str) -> None:
        body = json.loads(self._body.replace(BOT, bot_id))
        self._client.api.create_container_from_config(body, container_name(bot_id))  # type: ignore[no-untyped-call]

    def start(self, bot_id: str) -> None:
        self._client.api.start(container_name(bot_id))

    def stop(self, bot_id: str) -> None:
        self._client.api.stop(container_name(bot_id), timeout=0)

    def remove(self, bot_id: str) -> None:
        self._client.api.remove_container(container_name(bot_id), v=True, force=True)

    def status(self, bot_id: str) -> None:
        self._client.containers.get(container_name(bot_id))

    def list(self, _item: str) -> int:
        return len(self._client.containers.list(all=True, filters={"label": [MANAGED]}, ignore_removed=True))

    def read_log(self, bot_id: str) -> int:
        container = self._client.containers.get(container_name(bot_id))
        return sum(1 for _ in container.logs(stream=True, follow=False, timestamps=True))


class Service:
    """The generated stubs on a channel of ``container_manager_client``."""

    _connect: Callable[[str], grpc.Channel] = staticmethod(connect)

    def __init__(self, setting: Setting) -> None:
        channel = self._connect(setting.target)
        self._request = setting.request
        self._manager = ContainerManagerStub(channel)
        self._observer = ContainerObserverStub(channel)

    def create(self, bot_id: str) -> None:
        request = pb.CreateContainerRequest.FromString(self._request)
        request.bot_id = bot_id
        self._manager.CreateContainer(request)

    def start(self, bot_id: str) -> None:
        self._manager.StartContainer(pb.StartContainerRequest(bot_id=bot_id))

    def stop(self, bot_id: str) -> None:
        self._manager.StopContainer(pb.StopContainerRequest(bot_id=bot_id, grace_period={"seconds": 0}))

    def remove(self, bot_id: str) -> None:
        self._manager.RemoveContainer(pb.RemoveContainerRequest(bot_id=bot_id, grace_period={"seconds": 0}))

    def status(self, bot_id: str) -> None:
        self._manager.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))

    def list(self, _item: str) -> int:
        return len(self._manager.ListManagedContainers(pb.ListManagedContainersRequest()).containers)

    def synced(self, bot_id: str) -> float:
        """Watch a bot until the service knows all containers; ``time.monotonic()`` then."""
        ends = time.monotonic() + _SYNC_SECONDS
        while True:
            try:
                for response in self._observer.WatchContainers(observer_pb.WatchContainersRequest(bot_ids=[bot_id])):
                    if response.HasField("synced"):
                        return time.monotonic()
            except grpc.RpcError:
                # The service gives up a watcher that waits for long.
                if time.monotonic() > ends:
                    raise

    def read_log(self, bot_id: str, batch_entries: int = 0) -> int:
        """How many entries there are. The line of each is touched, as a caller would."""
        request: Any = observer_pb.StreamLogsRequest(bot_id=bot_id)
        if batch_entries:
            request.max_batch_entries = batch_entries
        count = size = 0
        response: Any
        for response in self._observer.StreamLogs(request):
            for entry in [response.entry] if response.HasField("entry") else response.entries:
                count += 1
                size += len(entry.line)
        return count

    def read_log_in_batches(self, bot_id: str) -> int:
        return self.read_log(bot_id, _BATCH_ENTRIES)


def answer_of(target: str, method: str, request: bytes = b"") -> bytes:
    """A service's answer, as it is sent."""
    channel: Any
    with bare_channel(target) as channel:
        answer: bytes = channel.unary_unary(method)(request)
    return answer


def bare_channel(target: str) -> grpc.Channel:
    """A channel of gRPC alone to ``unix:///path``."""
    options = (("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 32 * 1024 * 1024))
    return grpc.insecure_channel(target.replace("unix://", "unix:", 1), options=options)


class BareService(Service):
    """The service, or the empty one, by a channel without the interceptor of ``container_manager_client``."""

    _connect = staticmethod(bare_channel)


CLIENTS: dict[str, type] = {
    RAW: Raw,
    SDK: Sdk,
    SERVICE: Service,
    BARE: BareService,
    TELEMETRY: BareService,
    ECHO: BareService,
    MANAGER: RawManager,
}
