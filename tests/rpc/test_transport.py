"""What channels and listeners say to each other below the calls: pings, and the name that the server is called by."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager.rpc import server
from container_manager.rpc.listeners.server_factory import transport_options
from container_manager_client import channel, connect
from tests.fuzz.conversations import ACK, PING, PREFACE, Frame
from tests.support.memory_backend import MemoryBackend
from tests.support.serving import running_server

BuildConfig = Callable[..., ServerConfig]

CLIENT_PING = "grpc.keepalive_time_ms"
SERVER_PING = "grpc.http2.min_ping_interval_without_data_ms"
EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "options",
    [transport_options, lambda _: channel._OPTIONS, lambda _: [("grpc.default_authority", "")]],
    ids=["server", "client", "client on unix sockets"],
)
def test_grpc_knows_every_option_that_is_set(
    server_config: Callable[..., ServerConfig], options: Callable[[ServerConfig], Iterable[tuple[str, object]]]
) -> None:
    """It says nothing of one that it does not know, and goes on without."""
    known = Path(cygrpc.__file__).read_bytes()
    assert [] == [name for name, _ in options(server_config("unix:///s.sock")) if f"{name}\0".encode() not in known]


def test_the_client_pings_no_more_often_than_the_server_allows(server_config: Callable[..., ServerConfig]) -> None:
    ours = dict(transport_options(server_config("unix:///s.sock")))
    assert ours[SERVER_PING] < dict(channel._OPTIONS)[CLIENT_PING]


def quiet_stream_ends_with(target: str, seconds: float) -> grpc.RpcError:
    """How a stream ends that may last so long, and in which nothing is said after its first message."""
    with connect(target) as opened, pytest.raises(grpc.RpcError) as caught:
        list(health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=seconds))
    return caught.value


@pytest.mark.parametrize("allowed", [True, False])
def test_a_quiet_stream_outlives_the_clients_pings_because_the_server_allows_them(
    server_config: BuildConfig, memory: MemoryBackend, session_dir: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """Both sides many times as fast as they are; without the server's option the client is thrown out."""
    # gRPC pings once a second at most; of pings that come too early, the second is one too many.
    theirs = {**dict(channel._OPTIONS), CLIENT_PING: 300}
    config = server_config(f"unix://{session_dir}/pings/s.sock")
    ours = {**dict(transport_options(config)), SERVER_PING: 100, "grpc.http2.max_ping_strikes": 1}
    if not allowed:
        del ours[SERVER_PING]
    monkeypatch.setattr(server, "transport_options", lambda _: tuple(ours.items()))
    monkeypatch.setattr(channel, "_OPTIONS", tuple(theirs.items()))
    with running_server(config, backend=memory.opened) as addresses:
        error = quiet_stream_ends_with(addresses[0], seconds=3 if allowed else 30)
    assert (grpc.StatusCode.DEADLINE_EXCEEDED if allowed else grpc.StatusCode.UNAVAILABLE) is error.code()
    assert allowed or error.details() == "Too many pings"


def test_the_client_pings_for_as_long_as_a_stream_is_quiet(session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself gRPC stops after two pings without data."""
    monkeypatch.setattr(channel, "_OPTIONS", tuple({**dict(channel._OPTIONS), CLIENT_PING: 1_000}.items()))
    path = session_dir / "quiet.sock"
    with socket.socket(socket.AF_UNIX) as listener, connect(f"unix://{path}") as opened:
        listener.bind(str(path))
        listener.listen()
        call = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        connection, _ = listener.accept()
        connection.settimeout(10)
        pings = 0
        with connection, connection.makefile("rb") as stream:
            connection.sendall(EMPTY_SETTINGS)
            stream.read(len(PREFACE))
            while pings < 4:
                head = stream.read(9)
                payload = stream.read(int.from_bytes(head[:3], "big"))
                if head[3] == PING and not head[4] & ACK:
                    pings += 1
                    connection.sendall(Frame(PING, ACK, payload=payload).encoded())
        call.cancel()


def test_a_server_that_no_longer_answers_pings_is_given_up(session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All times a twentieth of what they are."""
    pings = ("grpc.keepalive", "grpc.http2.ping")
    times = {name: value // 20 for name, value in channel._OPTIONS if name.startswith(pings)}
    assert {CLIENT_PING: 1500, "grpc.keepalive_timeout_ms": 500, "grpc.http2.ping_timeout_ms": 500} == times
    monkeypatch.setattr(channel, "_OPTIONS", tuple({**dict(channel._OPTIONS), **times}.items()))
    path = session_dir / "frozen.sock"
    with socket.socket(socket.AF_UNIX) as listener, connect(f"unix://{path}") as opened:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        call = ContainerManagerStub(opened).StartContainer.future(pb.StartContainerRequest(), timeout=10)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(EMPTY_SETTINGS)
            assert grpc.StatusCode.UNAVAILABLE is call.code()


def test_a_connection_may_take_longer_than_tries_are_apart(session_dir: Path) -> None:
    """A busy machine takes more than a tenth of a second for TLS, or to say hello: to begin anew helps nobody."""
    path = session_dir / "slow.sock"
    with socket.socket(socket.AF_UNIX) as listener, connect(f"unix://{path}") as opened:
        listener.bind(str(path))
        listener.listen()
        call = health_pb2_grpc.HealthStub(opened).Check.future(health_pb2.HealthCheckRequest(), timeout=60)
        connection, _ = listener.accept()
        with connection:
            listener.settimeout(2 * dict(channel._OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000)
            with pytest.raises(TimeoutError):
                listener.accept()
            connection.sendall(EMPTY_SETTINGS)
            call.cancel()


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
