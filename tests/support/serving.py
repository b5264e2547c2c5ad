"""The real server, inside the test's process or as a separate process."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backend import Backend, CallObserver
from container_manager.backends.docker.backend import DockerBackend
from container_manager.config import ServerConfig
from container_manager.rpc.server import Server
from container_manager_client import connect
from tests.support.calls import Calls

T = TypeVar("T")
OpenBackend = Callable[[CallObserver | None], Backend]


@contextmanager
def running_server(
    config: ServerConfig, drain_seconds: float = 5.0, *, backend: OpenBackend | None = None
) -> Iterator[list[str]]:
    """The ``grpc.aio`` server on an event loop in a thread; yields its addresses.

    ``backend`` opens what runs the containers; ``None``: the Docker Engine of the configuration.
    """
    with looped_server(config, drain_seconds, backend=backend) as server:
        yield server.server.addresses


@contextmanager
def running_calls(config: ServerConfig, *, backend: OpenBackend | None = None) -> Iterator[Calls]:
    """Calls to such a server."""
    with running_server(config, backend=backend) as (address, *_), connect(address) as channel:
        yield Calls(ContainerManagerStub(channel))


@contextmanager
def looped_server(
    config: ServerConfig, drain_seconds: float = 5.0, *, backend: OpenBackend | None = None
) -> Iterator[LoopedServer]:
    """As :func:`running_server`; yields the server itself, for what cannot be seen from outside."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test server")
    thread.start()
    try:
        looped = LoopedServer(Server(config, backend or partial(DockerBackend, config.service)), loop)
        looped.run(looped.server.start(), 30)
        try:
            yield looped
        finally:
            looped.run(looped.server.stop(drain_seconds), 60 + drain_seconds)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class LoopedServer:
    """A server and the loop that it runs on."""

    server: Server
    loop: asyncio.AbstractEventLoop

    def run(self, awaitable: Coroutine[Any, Any, T], timeout_seconds: float = 60) -> T:
        """Run the awaitable on the server's loop; returns its result."""
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(timeout_seconds)


class ServerProcess:
    """``container-manager serve`` as a process; ``line`` is what it printed when it served, or ``""``."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: dict[str, str] | None = None,
        *,
        prefix: Sequence[str] = (),
    ) -> None:
        """``prefix``: a command that executes the rest, as another user for example."""
        self.log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "container_manager", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        self.line = self._first_line()

    def _first_line(self) -> str:
        assert self.process.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        stdout = self.process.stdout
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        return lines.get(timeout=60).strip()

    def log_text(self) -> str:
        """The log so far."""
        return self.log.read_text()

    def peak_memory_bytes(self) -> int:
        """The peak of its resident memory (proc(5), VmHWM)."""
        return self._of_status("VmHWM") * 1024

    def threads(self) -> int:
        """How many threads it has."""
        return self._of_status("Threads")

    def _of_status(self, name: str) -> int:
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split(f"{name}:")[1].split()[0])

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_seconds: float = 60.0) -> int:
        """Its exit status."""
        return self.process.wait(timeout_seconds)

    def close(self) -> None:
        """Kill it if it still runs, and wait for it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def server_process(arguments: Sequence[str], log: Path, **environment: str) -> Iterator[ServerProcess]:
    """A :class:`ServerProcess` that is killed at the end, if it still runs."""
    process = ServerProcess(arguments, log, environment)
    try:
        yield process
    finally:
        process.close()
