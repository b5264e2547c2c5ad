"""A container manager in memory, for tests of its clients: it carries out calls, and fails as scripted.

with ScriptedService() as service:
bot_id = service.add(state=pb.CONTAINER_STATE_EXITED)
service.fail("StartContainer", CommandNotFoundError("no such command"), bot_id)
service.watches.append([synced(1), changed(2, status), AWAY])
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import grpc
from grpc_status import rpc_status

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import bot_provisioner_pb2_grpc as provisioner_pb_grpc
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_maintainer_pb2_grpc as maintainer_pb_grpc
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_manager_pb2_grpc as pb_grpc
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1 import container_observer_pb2_grpc as observer_pb_grpc
from container_manager.errors import ActionNotAllowedError, ContainerManagerError, ContainerNotFoundError
from container_manager.rpc.interceptors.errors import to_status

AWAY = object()
"""In a stream's script: the stream breaks, as when the service is killed."""
HANG = object()
"""In a stream's script: no more messages until the reader has gone."""


class ScriptedService:
    """All services on a unix socket; nothing is left after the exit."""

    def __init__(self) -> None:
        self.containers: dict[str, pb.ContainerStatus] = {}
        """By container id."""
        self.requests: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, Any]] = []
        """The metadata of each call."""
        self.statuses: list[pb.ContainerStatus] = []
        """The answers of GetContainerStatus, in order, the last one repeated; if empty, the real status."""
        self.logs: list[Sequence[Any]] = []
        """A script for each future StreamLogs: entries, errors, AWAY, HANG."""
        self.batches = True
        """Successive entries come in one message if the request allows it; ``False``: as an old service sends them."""
        self.watches: list[Sequence[Any]] = []
        """A script for each future WatchContainers: messages, AWAY, HANG."""
        self.samples: list[Sequence[Any]] = []
        """The same for WatchStats."""
        self.stats = observer_pb.GetStatsResponse()
        """The answer of GetStats."""
        self.secrets: list[provisioner_pb.SecretInfo] = []
        """The answer of ListSecrets."""
        self.reloaded = provisioner_pb.ReloadSecretsResponse()
        """The answer of ReloadSecrets."""
        self.info = observer_pb.GetServerInfoResponse(version="9.8", backend="docker", backend_version="28.5.1")
        """The answer of GetServerInfo."""
        self.actions: list[Sequence[Any]] = []
        """A script for each future RunAction: messages, errors; without one, its image declares no action."""
        self.operations: list[Sequence[Any]] = []
        """The same for UpgradeContainer, CreateBackup and RestoreBackup."""
        self.backups: list[maintainer_pb.Backup] = []
        """The answer of ListBackups; DeleteBackup removes from it."""
        self.configs: dict[str, pb.ContainerConfig] = {}
        """The answers of GetContainerConfig by bot; a bot without one has an empty configuration."""
        self.at_once = 0
        self.most_at_once = 0
        self.gate = threading.Barrier(1)
        """Every start waits here."""
        self._failures: dict[tuple[str, str], ContainerManagerError | grpc.StatusCode] = {}
        self._lock = threading.Lock()
        self._directory = TemporaryDirectory(prefix="service-")
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        pb_grpc.add_ContainerManagerServicer_to_server(_Manager(self), self._server)
        observer_pb_grpc.add_ContainerObserverServicer_to_server(_Observer(self), self._server)
        provisioner_pb_grpc.add_BotProvisionerServicer_to_server(_Provisioner(self), self._server)
        maintainer_pb_grpc.add_ContainerMaintainerServicer_to_server(_Maintainer(self), self._server)

    @property
    def socket(self) -> Path:
        """The path of its unix socket."""
        return Path(self._directory.name) / "s.sock"

    @property
    def target(self) -> str:
        """Its address, for ``--target``."""
        return f"unix://{self.socket}"

    def add(self, bot_id: str = "", **fields: Any) -> str:
        """Add a container; returns its bot's id. ``orphan=True``: it has no bot."""
        bot_id = bot_id or str(uuid.uuid4())
        orphan = fields.pop("orphan", False)
        container_id = f"{len(self.containers) + 1:064x}"
        defaults = {"state": pb.CONTAINER_STATE_RUNNING, "name": f"botmaker-{bot_id}", "image": "bot:1"}
        status = pb.ContainerStatus(
            container_id=container_id, bot_id="" if orphan else bot_id, **{**defaults, **fields}
        )
        status.create_time.FromSeconds(1_700_000_000 + len(self.containers))
        self.containers[container_id] = status
        return bot_id

    def fail(self, method: str, error: ContainerManagerError | grpc.StatusCode, bot_id: str = "") -> None:
        """Let calls of this method fail; with ``bot_id``, only those for this bot."""
        self._failures[method, bot_id] = error

    def forgive(self, method: str) -> None:
        """Let calls of this method succeed again."""
        self._failures = {key: error for key, error in self._failures.items() if key[0] != method}

    def of_bot(self, bot_id: str) -> pb.ContainerStatus | None:
        """The bot's container."""
        return next((each for each in list(self.containers.values()) if each.bot_id == bot_id), None)

    def seen(self, method: str) -> list[Any]:
        """The requests of this method so far."""
        return [request for name, request in self.requests if name == method]

    def note(self, request: Any, context: grpc.ServicerContext) -> None:
        """Record a call, and fail it if it is scripted to fail."""
        method = type(request).DESCRIPTOR.name.removesuffix("Request")
        self.requests.append((method, request))
        self.metadata.append(dict(context.invocation_metadata()))
        error = self._failures.get((method, getattr(request, "bot_id", ""))) or self._failures.get((method, ""))
        if isinstance(error, ContainerManagerError):
            context.abort_with_status(rpc_status.to_status(to_status(error)))
        elif error is not None:
            context.abort(error, "scripted")

    def play(self, scripts: list[Sequence[Any]], context: grpc.ServicerContext) -> Iterator[Any]:
        """Play the next stream's script; a stream without a script hangs."""
        gone = threading.Event()
        context.add_callback(gone.set)
        for step in scripts.pop(0) if scripts else [HANG]:
            if step is AWAY:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            elif step is HANG:
                gone.wait()
            elif isinstance(step, grpc.StatusCode):
                context.abort(step, "scripted")
            elif isinstance(step, ContainerManagerError):
                context.abort_with_status(rpc_status.to_status(to_status(step)))
            else:
                yield step

    def __enter__(self) -> Self:
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._directory.cleanup()


class _Manager(pb_grpc.ContainerManagerServicer):
    def __init__(self, service: ScriptedService) -> None:
        self._service = service

    def CreateContainer(self, request: Any, context: Any) -> pb.CreateContainerResponse:  # noqa: N802
        self._service.note(request, context)
        self._service.add(request.bot_id, state=pb.CONTAINER_STATE_CREATED)
        container = self._service.of_bot(request.bot_id)
        assert container is not None
        return pb.CreateContainerResponse(container_id=container.container_id)

    def StartContainer(self, request: Any, context: Any) -> pb.StartContainerResponse:  # noqa: N802
        service = self._service
        with service._lock:
            service.at_once += 1
            service.most_at_once = max(service.most_at_once, service.at_once)
        try:
            with suppress(threading.BrokenBarrierError):
                service.gate.wait(timeout=10)
            self._change(request, context, pb.CONTAINER_STATE_RUNNING)
        finally:
            with service._lock:
                service.at_once -= 1
        return pb.StartContainerResponse()

    def StopContainer(self, request: Any, context: Any) -> pb.StopContainerResponse:  # noqa: N802
        self._service.note(request, context)
        if container := self._service.of_bot(request.bot_id):
            container.state = pb.CONTAINER_STATE_EXITED
        return pb.StopContainerResponse()

    def RestartContainer(self, request: Any, context: Any) -> pb.RestartContainerResponse:  # noqa: N802
        self._change(request, context, pb.CONTAINER_STATE_RUNNING)
        return pb.RestartContainerResponse()

    def RemoveContainer(self, request: Any, context: Any) -> pb.RemoveContainerResponse:  # noqa: N802
        self._service.note(request, context)
        if container := self._service.of_bot(request.bot_id):
            del self._service.containers[container.container_id]
        return pb.RemoveContainerResponse()

    def GetContainerStatus(self, request: Any, context: Any) -> pb.GetContainerStatusResponse:  # noqa: N802
        self._service.note(request, context)
        statuses = self._service.statuses
        if statuses:
            return pb.GetContainerStatusResponse(status=statuses.pop(0) if len(statuses) > 1 else statuses[0])
        return pb.GetContainerStatusResponse(status=self._service.of_bot(request.bot_id))

    def ListManagedContainers(self, request: Any, context: Any) -> pb.ListManagedContainersResponse:  # noqa: N802
        self._service.note(request, context)
        containers = list(self._service.containers.values())
        shown = [each for each in containers if not request.states or each.state in request.states]
        return pb.ListManagedContainersResponse(containers=shown)

    def _change(self, request: Any, context: Any, state: pb.ContainerState) -> None:
        self._service.note(request, context)
        container = self._service.of_bot(request.bot_id)
        if container is None:
            error = ContainerNotFoundError("the bot has no container; create one first", bot_id=request.bot_id)
            context.abort_with_status(rpc_status.to_status(to_status(error)))
        else:
            container.state = state


class _Provisioner(provisioner_pb_grpc.BotProvisionerServicer):
    def __init__(self, service: ScriptedService) -> None:
        self._service = service

    def PutSecrets(self, request: Any, context: Any) -> provisioner_pb.PutSecretsResponse:  # noqa: N802
        self._service.note(request, context)
        return provisioner_pb.PutSecretsResponse()

    def ListSecrets(self, request: Any, context: Any) -> provisioner_pb.ListSecretsResponse:  # noqa: N802
        self._service.note(request, context)
        return provisioner_pb.ListSecretsResponse(secrets=self._service.secrets)

    def DeleteSecrets(self, request: Any, context: Any) -> provisioner_pb.DeleteSecretsResponse:  # noqa: N802
        self._service.note(request, context)
        return provisioner_pb.DeleteSecretsResponse()

    def ReloadSecrets(self, request: Any, context: Any) -> provisioner_pb.ReloadSecretsResponse:  # noqa: N802
        self._service.note(request, context)
        return self._service.reloaded

    def PutFiles(self, request: Any, context: Any) -> provisioner_pb.PutFilesResponse:  # noqa: N802
        self._service.note(request, context)
        return provisioner_pb.PutFilesResponse()


class _Maintainer(maintainer_pb_grpc.ContainerMaintainerServicer):
    def __init__(self, service: ScriptedService) -> None:
        self._service = service

    def RunAction(self, request: Any, context: Any) -> Iterator[maintainer_pb.RunActionResponse]:  # noqa: N802
        self._service.note(request, context)
        scripts = self._service.actions or [[ActionNotAllowedError("image bot:1 has no action of this name")]]
        yield from self._service.play(scripts, context)

    def UpgradeContainer(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._service.note(request, context)
        yield from self._service.play(self._service.operations, context)

    CreateBackup = RestoreBackup = UpgradeContainer

    def ListBackups(self, request: Any, context: Any) -> maintainer_pb.ListBackupsResponse:  # noqa: N802
        self._service.note(request, context)
        return maintainer_pb.ListBackupsResponse(backups=self._service.backups)

    def DeleteBackup(self, request: Any, context: Any) -> maintainer_pb.DeleteBackupResponse:  # noqa: N802
        self._service.note(request, context)
        self._service.backups = [each for each in self._service.backups if each.backup_id != request.backup_id]
        return maintainer_pb.DeleteBackupResponse()


class _Observer(observer_pb_grpc.ContainerObserverServicer):
    def __init__(self, service: ScriptedService) -> None:
        self._service = service

    def GetServerInfo(self, request: Any, context: Any) -> observer_pb.GetServerInfoResponse:  # noqa: N802
        self._service.note(request, context)
        return self._service.info

    def WatchContainers(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._service.note(request, context)
        yield from self._service.play(self._service.watches, context)

    def StreamLogs(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._service.note(request, context)
        service = self._service
        if service.batches and service.logs:
            service.logs[0] = _in_batches(service.logs[0], request.max_batch_entries)
        yield from service.play(service.logs, context)

    def GetContainerConfig(self, request: Any, context: Any) -> observer_pb.GetContainerConfigResponse:  # noqa: N802
        self._service.note(request, context)
        return observer_pb.GetContainerConfigResponse(config=self._service.configs.get(request.bot_id))

    def GetStats(self, request: Any, context: Any) -> observer_pb.GetStatsResponse:  # noqa: N802
        self._service.note(request, context)
        return self._service.stats

    def WatchStats(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._service.note(request, context)
        yield from self._service.play(self._service.samples, context)


def entry(number: int, line: bytes = b"", **fields: Any) -> observer_pb.StreamLogsResponse:
    """The log entry with this number, which gives its time, its cursor and its default line."""
    source, text = observer_pb.LogEntry.SOURCE_STDOUT, line or b"line %d" % number
    fields = {"source": source, "line": text, "cursor": f"c{number}", **fields}
    made = observer_pb.LogEntry(**fields)
    made.time.seconds = number
    return observer_pb.StreamLogsResponse(entry=made)


def _in_batches(script: Sequence[Any], most: int) -> list[Any]:
    """The script, with its entries in messages of at most this many."""
    steps: list[Any] = []
    for step in script:
        if most <= 1 or not isinstance(step, observer_pb.StreamLogsResponse):
            steps.append(step)
            continue
        before = steps[-1] if steps else None
        if not isinstance(before, observer_pb.StreamLogsResponse) or len(before.entries) == most:
            steps.append(before := observer_pb.StreamLogsResponse())
        before.entries.append(step.entry)
    return steps


def snapshot(status: pb.ContainerStatus, version: int = 1) -> observer_pb.WatchContainersResponse:
    """A container at the start of a stream."""
    return observer_pb.WatchContainersResponse(version=version, snapshot=status)


def synced(version: int = 1) -> observer_pb.WatchContainersResponse:
    """The end of the snapshots."""
    return observer_pb.WatchContainersResponse(version=version, synced=observer_pb.Synced())


def changed(status: pb.ContainerStatus, version: int) -> observer_pb.WatchContainersResponse:
    """A changed container."""
    return observer_pb.WatchContainersResponse(version=version, changed=status)


def removed(status: pb.ContainerStatus, version: int) -> observer_pb.WatchContainersResponse:
    """A removed container."""
    gone = observer_pb.Removed(bot_id=status.bot_id, container_id=status.container_id)
    return observer_pb.WatchContainersResponse(version=version, removed=gone)
