"""The four ways to the engine that are compared, each with the same six operations; and the floor of a gRPC call.

They make the same container: the service's own ``container_body`` is its one description (``bench.belongings``), which
raw HTTP and the SDK's low level send as it is, the SDK's high level says in its own words, and the service derives
from a request. ``bench.sameness`` checks on the engine that the results agree.

Each is used the cheapest way that it offers: connections are kept, no pool is too small, the SDK's high level keeps its
container objects from create on instead of looking them up for each operation.

Two more tell what a read of the service is made of: the service called through a bare stub, without the interceptor of
``container_manager_client``; and, by the same stub, an empty ``grpc.aio`` service that sends the same bytes
(``bench.echo_service``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bench.engine_http import RawEngine
from container_manager.backends.docker.spec import LABEL_MANAGED, container_body
from container_manager.model import ContainerConfig, container_name

RAW = "raw HTTP"
SDK_LOW = "SDK low level"
SDK_HIGH = "SDK high level"
SERVICE = "service"
NAMES = (RAW, SDK_LOW, SDK_HIGH, SERVICE)
BARE = "service, bare stub"
ECHO = "empty echo service"

MANAGED = f"{LABEL_MANAGED}=true"
STATUS_METHOD = "/botmaker.container.v1.ContainerManager/GetContainerStatus"
LIST_METHOD = "/botmaker.container.v1.ContainerManager/ListManagedContainers"
ECHO_METHOD = "/bench.Echo/Echo"


@dataclass(frozen=True)
class Setting:
    """What a candidate must know; it crosses to the candidate's process."""

    docker_host: str
    target: str
    """The service's address; used by that candidate only."""
    secrets_root: str
    request_id: str
    """Marks every container of this run."""
    config: ContainerConfig

    def body(self, bot_id: str) -> dict[str, Any]:
        """The engine's JSON for a bot's container, as the service writes it."""
        return container_body(
            bot_id,
            self.config,
            image=self.config.image,
            secrets_source=f"{self.secrets_root}/{bot_id}",
            state_source=None,
            request_id=self.request_id,
        )


class Candidate(Protocol):
    """One thread's way to the engine. Each operation returns when the engine has done it."""

    def create(self, bot_id: str) -> None: ...
    def start(self, bot_id: str) -> None: ...
    def stop(self, bot_id: str) -> None:
        """With no grace."""

    def remove(self, bot_id: str) -> None: ...
    def status(self, bot_id: str) -> None: ...
    def list(self) -> int:
        """All managed containers; how many."""


class Raw:
    """HTTP and JSON of Python's standard library."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._engine = RawEngine(setting.docker_host)

    def create(self, bot_id: str) -> None:
        self._engine.create(container_name(bot_id), self._setting.body(bot_id))

    def start(self, bot_id: str) -> None:
        self._engine.start(container_name(bot_id))

    def stop(self, bot_id: str) -> None:
        self._engine.stop(container_name(bot_id))

    def remove(self, bot_id: str) -> None:
        self._engine.remove(container_name(bot_id))

    def status(self, bot_id: str) -> None:
        self._engine.inspect(container_name(bot_id))

    def list(self) -> int:
        return len(self._engine.list(MANAGED))


class SdkLow:
    """``docker.APIClient``."""

    def __init__(self, setting: Setting) -> None:
        import docker

        self._setting = setting
        self._api = docker.APIClient(base_url=setting.docker_host, version="auto", timeout=120)

    def create(self, bot_id: str) -> None:
        self._api.create_container_from_config(self._setting.body(bot_id), container_name(bot_id))  # type: ignore[no-untyped-call]

    def start(self, bot_id: str) -> None:
        self._api.start(container_name(bot_id))

    def stop(self, bot_id: str) -> None:
        self._api.stop(container_name(bot_id), timeout=0)

    def remove(self, bot_id: str) -> None:
        self._api.remove_container(container_name(bot_id), v=True, force=True)

    def status(self, bot_id: str) -> None:
        self._api.inspect_container(container_name(bot_id))

    def list(self) -> int:
        return len(self._api.containers(all=True, filters={"label": [MANAGED]}))


class SdkHigh:
    """``docker.DockerClient.containers``, whose list inspects every container, one after another."""

    def __init__(self, setting: Setting) -> None:
        import docker

        self._setting = setting
        self._client = docker.DockerClient(base_url=setting.docker_host, version="auto", timeout=120)
        self._made: dict[str, Any] = {}

    def create(self, bot_id: str) -> None:
        from docker.types import LogConfig, Mount

        body = self._setting.body(bot_id)
        host = body["HostConfig"]
        self._made[bot_id] = self._client.containers.create(
            body["Image"],
            command=body.get("Cmd"),
            name=container_name(bot_id),
            environment=body["Env"],
            labels=body["Labels"],
            mounts=[
                Mount(mount["Target"], mount["Source"], type=mount["Type"], read_only=mount["ReadOnly"])
                for mount in host["Mounts"]
            ],
            network_mode=host["NetworkMode"],
            restart_policy=host["RestartPolicy"],
            init=host["Init"],
            privileged=host["Privileged"],
            cap_drop=host["CapDrop"],
            security_opt=host["SecurityOpt"],
            log_config=LogConfig(type=host["LogConfig"]["Type"], config=host["LogConfig"]["Config"]),
        )

    def start(self, bot_id: str) -> None:
        self._made[bot_id].start()

    def stop(self, bot_id: str) -> None:
        self._made[bot_id].stop(timeout=0)

    def remove(self, bot_id: str) -> None:
        self._made.pop(bot_id).remove(v=True, force=True)

    def status(self, bot_id: str) -> None:
        self._client.containers.get(container_name(bot_id))

    def list(self) -> int:
        return len(self._client.containers.list(all=True, filters={"label": [MANAGED]}, ignore_removed=True))


class Service:
    """The generated stubs on a channel of ``container_manager_client``."""

    def __init__(self, setting: Setting, channel: Any) -> None:
        from botmaker.container.v1 import container_manager_pb2 as pb
        from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc

        self._setting = setting
        self._pb = pb
        self._stub = pb_grpc.ContainerManagerStub(channel)

    def create(self, bot_id: str) -> None:
        config = self._setting.config
        message = self._pb.ContainerConfig(
            image=config.image,
            ai_provider=config.ai_provider,
            ai_model=config.ai_model,
            channel_type=config.channel_type,
            network=config.network,
            command=config.command,
        )
        self._stub.CreateContainer(
            self._pb.CreateContainerRequest(bot_id=bot_id, config=message, request_id=self._setting.request_id)
        )

    def start(self, bot_id: str) -> None:
        self._stub.StartContainer(self._pb.StartContainerRequest(bot_id=bot_id))

    def stop(self, bot_id: str) -> None:
        self._stub.StopContainer(self._pb.StopContainerRequest(bot_id=bot_id, grace_period={"seconds": 0}))

    def remove(self, bot_id: str) -> None:
        self._stub.RemoveContainer(self._pb.RemoveContainerRequest(bot_id=bot_id, grace_period={"seconds": 0}))

    def status(self, bot_id: str) -> None:
        self._stub.GetContainerStatus(self._pb.GetContainerStatusRequest(bot_id=bot_id))

    def list(self) -> int:
        return len(self._stub.ListManagedContainers(self._pb.ListManagedContainersRequest()).containers)


class Bare:
    """The reads of a service, called as generated stubs call them, on a channel with our client's options."""

    def __init__(self, channel: Any, status_method: str, list_method: str) -> None:
        from botmaker.container.v1 import container_manager_pb2 as pb

        self._pb = pb
        self._status = channel.unary_unary(
            status_method,
            request_serializer=pb.GetContainerStatusRequest.SerializeToString,
            response_deserializer=pb.GetContainerStatusResponse.FromString,
            _registered_method=True,
        )
        self._list = channel.unary_unary(
            list_method,
            request_serializer=pb.ListManagedContainersRequest.SerializeToString,
            response_deserializer=pb.ListManagedContainersResponse.FromString,
            _registered_method=True,
        )

    def status(self, bot_id: str) -> None:
        self._status(self._pb.GetContainerStatusRequest(bot_id=bot_id))

    def list(self) -> int:
        return len(self._list(self._pb.ListManagedContainersRequest()).containers)


def bare_channel(target: str) -> Any:
    """What ``connect`` makes, without its interceptor."""
    import grpc

    from container_manager_client.channel import _target

    address, options = _target(target, None, None)
    return grpc.insecure_channel(address, options=options)


def factory(name: str, setting: Setting) -> Callable[[], Any]:
    """What makes one more of the named candidate, for one more thread; threads of the service share its channel."""
    if name == SERVICE:
        from container_manager_client import connect

        channel = connect(setting.target)
        return lambda: Service(setting, channel)
    if name in (BARE, ECHO):
        bare = bare_channel(setting.target)
        methods = (STATUS_METHOD, LIST_METHOD) if name == BARE else (ECHO_METHOD, ECHO_METHOD)
        return lambda: Bare(bare, *methods)
    kinds: dict[str, Callable[[Setting], Candidate]] = {RAW: Raw, SDK_LOW: SdkLow, SDK_HIGH: SdkHigh}
    return lambda: kinds[name](setting)
