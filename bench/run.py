"""One run: how much it measures, the services that it starts, the containers that it makes, and their removal.

A smoke run brings an engine of its own, and has one service, with all telemetry, for all parts.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

from bench.clients import CLIENTS, SERVICE, STATUS_METHOD, Setting, Timed, answer_of
from bench.echo_service import Echo
from bench.engine_http import EngineAnswerError, RawEngine
from bench.processes import Child, Program, Server
from bench.scripted_engine import ScriptedEngine
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2 import PutSecretsRequest
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect

FULL, QUICK, SMOKE = range(3)
SMOKE_CONTAINERS = 40
"""How many there are on the engine of a smoke run from its start."""
SLEEP = ("sleep", "86400")
# No collector is there: only spans of a smoke run's changes would go to it.
TELEMETRY_OPTIONS = ("--metrics-listen", "127.0.0.1:0", "--otlp-endpoint", "http://127.0.0.1:9", "--log-format", "json")
_REQUEST_ID_LABEL = "botmaker.request-id"
_CLEAN_UP_SECONDS = 180
_AT_ONCE = 8
_HTTP_NOT_FOUND, _HTTP_CONFLICT = 404, 409
_SETTLED_SECONDS = 1.0


class Run:
    """A context manager. On exit it removes every container of this run and nothing else."""

    def __init__(self, docker_host: str, image: str, scale: int, rounds: int | None) -> None:
        """``scale``: :data:`FULL`, :data:`QUICK`, or :data:`SMOKE`, which brings an engine of its own."""
        self.docker_host = docker_host
        self.scratch = Path(tempfile.mkdtemp(prefix="botmaker-bench-"))
        self.is_smoke = scale == SMOKE
        self._scale = scale
        self._rounds = rounds
        self._image = image
        self.secrets_root = self.scratch / "secrets"
        self.secrets_root.mkdir(mode=0o700)
        # A request id becomes a label, and any number of bots may have the same.
        self._run_id = f"bench-{uuid.uuid4()}"
        self._idle: list[str] = []
        self._servers = 0
        self._echo: Child | None = None
        self._shared: Program | None = None
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self._stack.pop_all())
            if self.is_smoke:
                self.docker_host = stack.enter_context(self.server(ScriptedEngine, SMOKE_CONTAINERS)).target
            # Services and clients have ended when this runs, but for the shared services of a smoke run.
            stack.callback(self.remove_containers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if kind is not None and not self.is_smoke:
            # The engine may still be creating what a client asked for before it was interrupted.
            time.sleep(_SETTLED_SECONDS)
        self._stack.close()

    def pick(self, full: int, quick: int, smoke: int) -> int:
        """How many there are of something in a run of this scale."""
        return (full, quick, smoke)[self._scale]

    def rounds(self, full: int, quick: int, smoke: int) -> int:
        """The same for rounds, which the command line may set."""
        return self._rounds or self.pick(full, quick, smoke)

    @contextmanager
    def server(self, kind: type[Server], *arguments: Any) -> Iterator[Child]:
        """A child that serves, with these arguments after its socket."""
        socket_path = self._socket(kind.__name__)
        with Child(kind, str(socket_path), *arguments, thread=self.is_smoke) as child:
            child.target = f"unix://{socket_path}"
            try:
                yield child
            finally:
                child.call("close")

    def echo(self, answer: bytes) -> Child:
        """The empty service of :mod:`bench.echo_service`, the same for the whole run; from now on with this answer."""
        if self._echo is None:
            self._echo = self._stack.enter_context(self.server(Echo))
        self._echo.call("set", answer)
        return self._echo

    @contextmanager
    def service(self, *options: str) -> Iterator[Program]:
        """The service on this run's engine, as users start it."""
        if not self.is_smoke:
            with self._start(self.docker_host, options) as service:
                yield service
            return
        if self._shared is None:
            self._shared = self._stack.enter_context(self._start(self.docker_host, TELEMETRY_OPTIONS))
        yield self._shared

    @contextmanager
    def synced_service(self, docker_host: str, bot_id: str) -> Iterator[tuple[Program, float]]:
        """A fresh service that knows all containers, and the seconds from just before its process was made.

        One of the bots is watched, so that no other snapshots take time. It yields when the service is idle again.
        """
        if self.is_smoke:
            with self.service() as shared:
                yield shared, time.monotonic() - shared.spawned
            return
        with ExitStack() as stack:
            service_socket = self._socket("service")
            # The client's process is ready before the service's is made.
            client = stack.enter_context(self.client(SERVICE, Setting(docker_host, f"unix://{service_socket}")))
            service = stack.enter_context(self._start(docker_host, (), service_socket))
            _, synced = client.call("each", "synced", [bot_id])
            time.sleep(_SETTLED_SECONDS)
            yield service, synced - service.spawned

    def client(self, name: str, setting: Setting) -> Child:
        """A process with one of :data:`bench.clients.CLIENTS`. In a smoke run it is a thread, which starts at once."""
        return Child(Timed, CLIENTS[name], setting, thread=self.is_smoke)

    def new_bots(self, count: int) -> list[str]:
        """Ids of new bots, each with its secrets directory."""
        bot_ids = [str(uuid.uuid4()) for _ in range(count)]
        for bot_id in bot_ids:
            (self.secrets_root / bot_id).mkdir(mode=0o700)
        return bot_ids

    def request(self, network: str = "bridge", command: Sequence[str] = SLEEP) -> pb.CreateContainerRequest:
        """A request for a container of this run, without a bot id."""
        config = pb.ContainerConfig(
            image=self._image,
            ai_provider="anthropic",
            ai_model="some-model",
            channel_type="telegram",
            network=network,
            command=command,
        )
        return pb.CreateContainerRequest(config=config, request_id=self._run_id)

    def make(
        self, service: Program, count: int, request: pb.CreateContainerRequest, *, start: bool, secret: bool = False
    ) -> list[str]:
        """Make containers through the service, some at a time, and start them; the new bots' ids.

        ``secret``: put one of each bot first.
        """
        bot_ids = self.new_bots(count)
        with connect(service.target) as channel, ThreadPoolExecutor(_AT_ONCE) as pool:
            stub, provisioner = ContainerManagerStub(channel), BotProvisionerStub(channel)

            def make(bot_id: str) -> None:
                if secret:
                    provisioner.PutSecrets(PutSecretsRequest(bot_id=bot_id, secrets={"GATEWAY_TOKEN": b"secret"}))
                one = pb.CreateContainerRequest(bot_id=bot_id, config=request.config, request_id=request.request_id)
                stub.CreateContainer(one)
                if start:
                    stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id))

            list(pool.map(make, bot_ids))
        return bot_ids

    def idle_bots(self, service: Program, count: int) -> list[str]:
        """Bots whose containers were created and never started, on no network. They are kept for the next call."""
        missing = max(0, count - len(self._idle))
        if missing:
            self._idle += self.make(service, missing, self.request(network="none"), start=False)
        return self._idle[:count]

    def remove_containers(self) -> None:
        """Remove all containers of this run."""
        self._idle.clear()
        ours = f"{_REQUEST_ID_LABEL}={self._run_id}"
        ends = time.monotonic() + _CLEAN_UP_SECONDS
        with closing(RawEngine(self.docker_host)) as engine, ThreadPoolExecutor(_AT_ONCE) as pool:
            while rows := engine.list(ours):
                list(pool.map(self._remove, [row["Id"] for row in rows]))
                if time.monotonic() > ends:
                    print(f"bench: containers with the label {ours} are left", file=sys.stderr)
                    return

    def _remove(self, container_id: str) -> None:
        with closing(RawEngine(self.docker_host)) as engine:
            try:
                engine.remove(container_id)
            except EngineAnswerError as exc:
                # It is gone, or somebody is removing it; the next look shows which.
                if exc.status not in (_HTTP_NOT_FOUND, _HTTP_CONFLICT):
                    raise

    def _start(self, docker_host: str, options: Sequence[str], path: Path | None = None) -> Program:
        path = path or self._socket("service")
        command = (
            "--listen",
            f"unix://{path}",
            "--docker-host",
            docker_host,
            "--secrets-root",
            str(self.secrets_root),
        )
        return Program(path, [sys.executable, "-m", "container_manager", "serve", *command, *options])

    def _socket(self, name: str) -> Path:
        """A path for a socket, in a directory of its own."""
        self._servers += 1
        directory = self.scratch / f"{name}-{self._servers}"
        directory.mkdir(mode=0o700)
        return directory / "socket"


def status_answer(service: Program, bot_id: str) -> bytes:
    """The service's answer to a status, as it is sent."""
    return answer_of(service.target, STATUS_METHOD, pb.GetContainerStatusRequest(bot_id=bot_id).SerializeToString())
