"""Connections that callers do not read are closed in time, and others stay open."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from container_manager.addresses import TcpAddress, UnixAddress
from container_manager.rpc.interceptors import accounting
from container_manager.rpc.listeners import unread_connections
from container_manager.rpc.listeners.unread_connections import UnreadConnections
from container_manager.scheduling.unsent_answers import CALL_BYTES
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.rpc.conftest import ServeLooped
from tests.support.health_calls import probe, watch
from tests.support.unread_connection import unread_connection
from tests.support.waiting import wait_until

UNKNOWN = Call(b"/botmaker.container.v1.ContainerManager/Nothing", b"")
UNKNOWN_SERVICE = Call(b"/grpc.health.v1.Health/Check", b"\x0a\x07nothing")
INVALID = Call(b"/botmaker.container.v1.ContainerManager/GetContainerStatus", b"")


@pytest.mark.parametrize("call", [UNKNOWN, UNKNOWN_SERVICE, INVALID], ids=["method", "service", "error"])
def test_errors_that_nobody_reads_are_counted_and_close_their_connection(
    serve_looped: ServeLooped, session_dir: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """The connection of others stays open."""
    monkeypatch.setattr(accounting, "MAX_UNSENT_ERROR_BYTES", 100 * CALL_BYTES)
    with (
        capture_logs() as logs,
        serve_looped(f"unix://{session_dir}/unread/s.sock") as looped,
        connect(looped.server.addresses[0]) as channel,
        unread_connection(looped.server.addresses[0]) as unread,
    ):
        stream = watch(channel)

        def is_closed() -> bool:
            # Not all at once: gRPC by itself refuses what it has no time for.
            probe(channel)
            return not unread.call([call] * 100)

        wait_until(is_closed, "it is closed", 20)
        closed = wait_until(lambda: [line for line in logs if line["event"].startswith("closed")], "it is logged", 5)
        assert [1] == [line["connections"] for line in closed]
        assert stream.is_active()
        stream.cancel()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
def test_only_a_connection_of_the_listener_that_is_not_read_is_closed(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, reads: bool
) -> None:
    monkeypatch.setattr(unread_connections, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(unread_connections, "PATIENCE_SECONDS", 0.5)
    path = session_dir / f"{kind}-{reads}.sock"
    family, name = (socket.AF_UNIX, str(path)) if kind == "unix" else (socket.AF_INET, ("127.0.0.1", 0))

    async def is_closed() -> bool:
        with socket.socket(family) as listener, socket.socket(family) as caller:
            listener.bind(name)
            listener.listen()
            caller.connect(listener.getsockname())
            connection, _ = listener.accept()
            other, peer = socket.socketpair()
            with connection, other, peer:
                other.send(b"unread")
                unread = UnreadConnections()
                bound = listener.getsockname()
                port = 0 if kind == "unix" else bound[1]
                unread.listens_on(UnixAddress(path) if kind == "unix" else TcpAddress("127.0.0.1", port), port)
                watching = asyncio.create_task(unread.run())
                unread.end_calls(())
                connection.settimeout(0)
                for _ in range(50):
                    try:
                        fill(connection)
                    except BrokenPipeError:
                        return True
                    await asyncio.sleep(0.02)
                    if reads:
                        caller.recv(100_000)
                        await asyncio.sleep(0.02)
                watching.cancel()
                assert other.send(b"more")
        return False

    assert asyncio.run(is_closed()) is not reads


def fill(connection: socket.socket) -> None:
    """Send what it takes."""
    with suppress(BlockingIOError):
        while True:
            connection.send(bytes(10_000))
