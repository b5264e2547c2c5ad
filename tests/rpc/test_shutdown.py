"""The service's shutdown, in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager.maintenance.journal import Journal, Record
from container_manager.rpc.server import Server
from container_manager_client import connect
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend
from tests.support.waiting import wait_until


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """The handlers of this process are as before, whatever the server has set."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_restored")
def test_no_call_is_accepted_once_the_log_says_that_the_service_shuts_down(
    server_config: Callable[..., ServerConfig],
    memory: MemoryBackend,
    bot_id: str,
    session_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while the shutdown itself has not begun: a busy event loop may reach it later."""
    address = f"unix://{session_dir}/shutdown/s.sock"
    server = Server(server_config(address), memory.opened)
    refused = asyncio.Event()
    stop = server.stop

    async def stop_later(grace_seconds: float) -> int:
        await refused.wait()
        return await stop(grace_seconds)

    monkeypatch.setattr(server, "stop", stop_later)

    def call(loop: asyncio.AbstractEventLoop) -> None:
        try:
            with connect(address) as channel:
                calls = Calls(ContainerManagerStub(channel))
                with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
                    calls.start(bot_id)
                os.kill(os.getpid(), signal.SIGTERM)
                wait_until(lambda: {"shutting down"} & {entry["event"] for entry in logs}, "the signal is logged")
                with fails_with("UNAVAILABLE", "SHUTTING_DOWN"):
                    calls.start(bot_id)
        finally:
            loop.call_soon_threadsafe(refused.set)

    called: list[Future[None]] = []
    with capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        server.run(lambda _: called.append(pool.submit(call, asyncio.get_running_loop())))
    called[0].result()


@pytest.mark.usefixtures("signals_restored")
def test_a_signal_ends_a_service_that_waits_for_a_disk_in_its_start(
    server_config: Callable[..., ServerConfig],
    memory: MemoryBackend,
    session_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One signal, as service managers send: the process exits although a worker is still in a call to the system."""
    answers, served, exited = threading.Event(), [], []

    def hangs(_journal: Journal) -> list[Record]:
        os.kill(os.getpid(), signal.SIGTERM)
        answers.wait(20)
        return []

    monkeypatch.setattr(Journal, "unfinished", hangs)
    monkeypatch.setattr(os, "_exit", exited.append)
    Server(server_config(f"unix://{session_dir}/shutdown/t.sock"), memory.opened).run(served.append)
    assert ([], [0], False) == (served, exited, answers.is_set())
    answers.set()
