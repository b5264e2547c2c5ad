"""Requests as large as the service accepts, in any number, cost bounded memory for as long as they are under way."""

from __future__ import annotations

import socket
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager_client import connect, error_info
from tests.support.serving import ServerProcess, server_process
from tests.support.stalled_senders import MOST_GROWTH_BYTES
from tests.support.waiting import wait_until

LARGE_BYTES = 4_000_000
MIB = 2**20
# What is kept of requests that wait, as the messages and as the values that are made of them.
MOST_KEPT_BYTES = 3 * 64 * MIB


@pytest.fixture
def silent_engine(session_dir: Path) -> Iterator[str]:
    """An engine that takes connections and never answers."""
    path = session_dir / "silent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(512)
        yield f"unix://{path}"
    path.unlink()


@pytest.fixture
def server(silent_engine: str, session_dir: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """The service on both kinds of listeners."""
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/large/s.sock", "--listen", "tcp://127.0.0.1:0"]
    arguments += ["--secrets-root", str(tmp_path / "secrets"), "--token-file", str(tmp_path / "token")]
    arguments += ["--docker-host", silent_engine, "--drain-seconds", "1"]
    with server_process(arguments, tmp_path / "log") as process:
        yield process


def test_large_health_requests_are_refused_and_none_is_kept(server: ServerProcess) -> None:
    """Over TCP, where nobody needs a token for them."""
    tcp = server.line.split()[-1]
    with connect(tcp) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = server.peak_memory_bytes()
        request = health_pb2.HealthCheckRequest(service="x" * LARGE_BYTES)
        for _ in range(16):
            # As many as are received at once.
            watches = [health.Watch(request, timeout=30) for _ in range(16)]
            assert {grpc.StatusCode.INVALID_ARGUMENT: 16} == Counter(watch.code() for watch in watches)
    assert server.peak_memory_bytes() - before < MOST_GROWTH_BYTES


def test_a_compressed_request_costs_no_more_memory_than_the_largest_request(server: ServerProcess) -> None:
    """Over TCP, without a token: zeros are a thousand times smaller on the way."""
    with connect(server.line.split()[-1]) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        before = server.peak_memory_bytes()
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as caught:
            check(bytes(256 * MIB), compression=grpc.Compression.Gzip, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.peak_memory_bytes() - before < 64 * MIB


def test_large_creates_that_wait_for_one_bots_turn_cost_bounded_memory(server: ServerProcess) -> None:
    config = pb.ContainerConfig(image="image", command=["x" * 1_000] * 500)
    config.health_check.command.extend(["x" * 1_000] * 1_000)
    for number in range(500):
        config.environment[f"NAME_{number}"] = "x" * 1_000
    request = pb.CreateContainerRequest(bot_id=str(uuid.uuid4()), config=config)
    with connect(server.line.split()[-2]) as channel:
        manager = ContainerManagerStub(channel)
        before = server.peak_memory_bytes()
        calls = [manager.CreateContainer.future(request, timeout=120) for _ in range(200)]
        wait_until(lambda: sum(call.done() for call in calls) > 170, "those beyond the limit are refused")
        reasons = {error_info(call.exception()).reason for call in calls if call.done()}
        for call in calls:
            call.cancel()
    assert {"CAPACITY_EXCEEDED"} == reasons
    assert server.peak_memory_bytes() - before < MOST_GROWTH_BYTES + MOST_KEPT_BYTES
