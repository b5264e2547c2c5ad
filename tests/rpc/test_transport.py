"""What channels and listeners say to each other below the calls: pings, and the name that the server is called by."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager.rpc import server
from container_manager_client import channel, connect
from tests.support.serving import running_server

CLIENT_PING = "grpc.keepalive_time_ms"
SERVER_PING = "grpc.http2.min_ping_interval_without_data_ms"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("name", sorted({*dict(server._OPTIONS), *dict(channel._OPTIONS), "grpc.default_authority"}))
def test_grpc_knows_every_option_that_is_set(name: str) -> None:
    """It says nothing of one that it does not know, and goes on without."""
    assert f"{name}\0".encode() in Path(cygrpc.__file__).read_bytes()


def test_the_client_pings_no_more_often_than_the_server_allows() -> None:
    assert dict(server._OPTIONS)[SERVER_PING] < dict(channel._OPTIONS)[CLIENT_PING]


def quiet_stream_ends_with(target: str, seconds: float) -> grpc.RpcError:
    """How a stream ends that may last so long, and in which nothing is said after its first message."""
    with connect(target) as opened, pytest.raises(grpc.RpcError) as caught:
        list(health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=seconds))
    return caught.value


@pytest.mark.parametrize("allowed", [True, False])
def test_a_quiet_stream_outlives_the_clients_pings_because_the_server_allows_them(
    server_config: Callable[..., ServerConfig], session_dir: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """Both sides many times as fast as they are; without the server's option the client is thrown out."""
    # gRPC pings once a second at most; of pings that come too early, the second is one too many.
    theirs = {**dict(channel._OPTIONS), CLIENT_PING: 300, "grpc.http2.max_pings_without_data": 0}
    ours = {**dict(server._OPTIONS), SERVER_PING: 100, "grpc.http2.max_ping_strikes": 1}
    if not allowed:
        del ours[SERVER_PING]
    monkeypatch.setattr(server, "_OPTIONS", tuple(ours.items()))
    monkeypatch.setattr(channel, "_OPTIONS", tuple(theirs.items()))
    with running_server(server_config(f"unix://{session_dir}/pings/s.sock")) as addresses:
        error = quiet_stream_ends_with(addresses[0], seconds=3)
    assert (grpc.StatusCode.DEADLINE_EXCEEDED if allowed else grpc.StatusCode.UNAVAILABLE) is error.code()
    assert allowed or error.details() == "Too many pings"


def test_on_a_unix_socket_the_authority_is_localhost_and_no_encoded_path(session_dir: Path) -> None:
    path = session_dir / "authority.sock"
    with socket.socket(socket.AF_UNIX) as listener, connect(f"unix://{path}") as opened:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        call = ContainerManagerStub(opened).ListManagedContainers.future(pb.ListManagedContainersRequest())
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            connection.sendall(EMPTY_SETTINGS)
            seen = b""
            # gRPC sends the values of header fields as plain text the first time (RFC 7541).
            while b"/ListManagedContainers" not in seen or not re.search(rb"localhost|%2[fF]", seen):
                seen += connection.recv(4096)
        call.cancel()
    assert b"localhost" in seen
    assert b"%2F" not in seen.upper()
    assert b"authority.sock" not in seen
