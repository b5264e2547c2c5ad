"""Callers that take no answers cost bounded memory, and hold up neither the shutdown of the service nor its health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.support.calls import fails_with
from tests.support.fake_engine import FakeEngine
from tests.support.health_calls import probe, watch
from tests.support.serving import ServerProcess, server_process
from tests.support.silent_reader import silent_reader
from tests.support.unread_connection import unread_connection
from tests.support.waiting import wait_until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
DRAIN_SECONDS = 40
# Four times the bound of health checks' answers: neither gRPC nor the allocator counts as the service does.
MOST_GROWTH_BYTES = 4 * 64 * 2**20
HEALTH = [Call(f"/grpc.health.v1.Health/{name}".encode(), b"") for name in ("Check", "Watch")]
REFLECTION = Call(
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString(),
)
# An answer of some 20 KiB; a socket's buffers hold fewer than a third of as many as may be open.
LARGE = Call(
    REFLECTION.path,
    reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="botmaker.container.v1.ContainerManager"
    ).SerializeToString(),
)
STATUS = Call(
    b"/botmaker.container.v1.ContainerManager/GetContainerStatus",
    pb.GetContainerStatusRequest(bot_id="no bot").SerializeToString(),
)


@pytest.fixture
def server(session_dir: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """The service on both kinds of listeners, with an engine that answers."""
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/silent/s.sock", "--listen", "tcp://127.0.0.1:0"]
    arguments += ["--secrets-root", str(tmp_path / "secrets"), "--token-file", str(tmp_path / "token")]
    with FakeEngine() as engine:
        arguments += ["--docker-host", engine.url, "--drain-seconds", str(DRAIN_SECONDS)]
        with server_process(arguments, tmp_path / "log") as process:
            yield process


def ends_within_seconds(server: ServerProcess) -> float:
    """End it by a signal; how long that takes."""
    begun = time.monotonic()
    server.terminate()
    assert 0 == server.wait(2 * DRAIN_SECONDS)
    return time.monotonic() - begun


def test_an_open_health_watch_hears_of_a_shutdown_and_does_not_hold_it_up(server: ServerProcess) -> None:
    with connect(server.line.split()[-1]) as channel:
        wait_until(lambda: probe(channel) == SERVING, "the engine answers")
        health = watch(channel)
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(ends_within_seconds, server)
            assert NOT_SERVING == next(health).status
            with fails_with("UNAVAILABLE", "SHUTTING_DOWN"):
                next(health)
            assert ended.result() < DRAIN_SECONDS / 4


def test_a_health_watcher_that_takes_no_answer_holds_up_no_other(server: ServerProcess) -> None:
    unix, tcp = server.line.split()[-2:]
    with silent_reader(tcp, HEALTH), connect(unix) as channel:
        wait_until(lambda: probe(channel) == SERVING, "the engine answers")


def test_answers_that_nobody_takes_cost_bounded_memory_without_a_token(server: ServerProcess) -> None:
    """The callers stay. An answer costs some 16 KiB."""
    tcp = server.line.split()[-1]
    before = server.peak_memory_bytes()
    with ExitStack() as stack:
        channel = stack.enter_context(connect(tcp))
        for _ in range(50):
            # Fewer than are refused because they come at once.
            stack.enter_context(silent_reader(tcp, HEALTH[:1] * 600))
            wait_until(lambda: answers(channel), "another caller is answered")
    assert server.peak_memory_bytes() - before < MOST_GROWTH_BYTES


def answers(channel: grpc.Channel) -> bool:
    try:
        probe(channel)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)  # noqa: PT017 - a later one succeeds
        return False
    return True


@pytest.mark.parametrize("listener", ["unix", "tcp"])
def test_callers_that_take_no_answer_do_not_hold_up_a_shutdown(server: ServerProcess, listener: str) -> None:
    """Over TCP without a token."""
    unix, tcp = server.line.split()[-2:]
    address, calls = (unix, [*HEALTH, REFLECTION, STATUS]) if listener == "unix" else (tcp, HEALTH)
    with silent_reader(address, calls), connect(address) as channel:
        wait_until(lambda: probe(channel) == SERVING, "the engine answers")
        assert ends_within_seconds(server) < DRAIN_SECONDS / 4


def test_a_caller_that_does_not_read_its_connection_does_not_hold_up_a_shutdown(server: ServerProcess) -> None:
    """A write to it is blocked, which gRPC waits for: not even the end of all calls ends that."""
    unix = server.line.split()[-2]
    with unread_connection(unix) as unread:
        assert unread.call([LARGE] * 60)
        wait_until(lambda: "code=CANCELLED" in server.log_text(), "an answer was not taken in time")
        assert ends_within_seconds(server) < DRAIN_SECONDS / 4
    assert "callers that do not read their connections are left at the end" in server.log_text()
    assert not Path(unix.removeprefix("unix://")).exists(), "the rest of the shutdown is done"


@pytest.mark.parametrize("call", [STATUS, HEALTH[0]], ids=["errors", "health checks"])
def test_connections_that_nobody_reads_cost_bounded_memory_and_are_closed(server: ServerProcess, call: Call) -> None:
    """Over a unix socket, which never gives up by itself."""
    address = server.line.split()[-2]
    before = server.peak_memory_bytes()
    with ExitStack() as stack:
        channel = stack.enter_context(connect(address))
        unread = [stack.enter_context(unread_connection(address)) for _ in range(7)]
        for _ in range(40):
            for connection in unread:
                connection.call([call] * 100)
            wait_until(lambda: answers(channel), "another caller is answered")
        assert server.peak_memory_bytes() - before < 400 * 2**20
        for connection in unread:
            wait_until(lambda connection=connection: not connection.call([call]), "it is closed", 20)
