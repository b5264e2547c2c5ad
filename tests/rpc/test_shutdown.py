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
from container_manager.bot_locks import BotLocks
from container_manager.config import ServerConfig
from container_manager.maintenance.journal import Journal, Record
from container_manager.rpc import server as server_module
from container_manager.rpc.server import Server
from container_manager.scheduling.worker_pools import WorkerPools
from container_manager_client import connect
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def exited(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The codes with which the server would end this process, whose signal handlers are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    yield codes
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def address(session_dir: Path, bot_id: str) -> str:
    """The listener's, of this test alone."""
    return f"unix://{session_dir}/shutdown/{bot_id[:8]}.sock"


@pytest.fixture
def server(server_config: Callable[..., ServerConfig], memory: MemoryBackend, address: str) -> Server:
    """The service, to be run."""
    return Server(server_config(address), memory.opened)


def test_no_call_is_accepted_once_the_log_says_that_the_service_shuts_down(
    server: Server, address: str, bot_id: str, monkeypatch: pytest.MonkeyPatch, exited: list[int]
) -> None:
    """Also while the shutdown itself has not begun: a busy event loop may reach it later."""
    refused = asyncio.Event()
    stop = server.stop

    async def stop_later(grace_seconds: float) -> int:
        await refused.wait()
        return await stop(grace_seconds)

    monkeypatch.setattr(server, "stop", stop_later)
    monkeypatch.setattr(server_module, "_WORKERS_END_SECONDS", 60)

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
    assert [] == exited


def test_a_signal_ends_a_service_that_waits_for_a_disk_in_its_start(
    server: Server, monkeypatch: pytest.MonkeyPatch, exited: list[int]
) -> None:
    """One signal, as service managers send: the process exits although a worker is still in a call to the system."""
    answers, served = threading.Event(), []

    def hangs(_journal: Journal) -> list[Record]:
        os.kill(os.getpid(), signal.SIGTERM)
        answers.wait(20)
        return []

    monkeypatch.setattr(Journal, "unfinished", hangs)
    server.run(served.append)
    assert ([], [0], False) == (served, exited, answers.is_set())
    answers.set()


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A worker that closes the file of the bots' locks at the end of the service hangs until this is set."""
    event, close = threading.Event(), BotLocks.close

    def close_later(locks: BotLocks) -> None:
        event.wait(60)
        close(locks)

    monkeypatch.setattr(BotLocks, "close", close_later)
    yield event
    event.set()


def serve_until_a_signal(server: Server) -> None:
    server.run(lambda _: os.kill(os.getpid(), signal.SIGTERM))


def test_a_worker_that_is_about_to_end_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, exited: list[int], closing: threading.Event
) -> None:
    """A process that exits at once runs nothing of what is registered for its end."""
    idle_within = WorkerPools.idle_within

    def ends_meanwhile(pools: WorkerPools, seconds: float) -> bool:
        assert seconds > 0
        assert not idle_within(pools, 0)
        closing.set()
        return idle_within(pools, 60)

    monkeypatch.setattr(WorkerPools, "idle_within", ends_meanwhile)
    serve_until_a_signal(server)
    assert closing.is_set()
    assert [] == exited


@pytest.mark.usefixtures("closing")
def test_a_worker_that_hangs_at_the_end_is_left(server: Server, exited: list[int]) -> None:
    serve_until_a_signal(server)
    assert [0] == exited
