"""Limits of connections, made small: how many there are, what each may carry, and how long it may be silent."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from container_manager.config import TransportLimits
from container_manager.rpc.stream_kinds import HEALTH
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped
from tests.support.calls import fails_with
from tests.support.child_environment import child_environment
from tests.support.health_calls import probe, watch
from tests.support.serving import LoopedServer
from tests.support.waiting import wait_until

CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"\x00" * 8
GOAWAY, ENHANCE_YOUR_CALM = 7, 11


@pytest.fixture
def serve(serve_looped: ServeLooped, session_dir: Path) -> ServeLooped:
    """Makes a server on a unix socket with these limits."""
    return lambda limits=None, **further: serve_looped(
        f"unix://{session_dir}/limits/s.sock", limits=limits or TransportLimits(), **further
    )


def target(looped: LoopedServer) -> str:
    return looped.server.addresses[0]


def apart(looped: LoopedServer) -> grpc.Channel:
    """A channel with a connection of its own: gRPC has the like channels of one process share one."""
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(target(looped).replace("unix://", "unix:"), options=options)


def connected(looped: LoopedServer) -> socket.socket:
    """A connection that says nothing yet."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(target(looped).removeprefix("unix://"))
    return client


def read_to_end(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    seen = b""
    try:
        while more := client.recv(4096):
            seen += more
    except ConnectionResetError:
        pass
    return seen


def test_a_connections_streams_over_the_limit_wait_for_one_to_end(serve: ServeLooped) -> None:
    with serve(TransportLimits(streams_per_connection=2)) as looped, connect(target(looped)) as channel:
        first, second = watch(channel), watch(channel)
        with fails_with("DEADLINE_EXCEEDED", ""):
            probe(channel, timeout=0.3)
        with apart(looped) as another:
            probe(another)
        first.cancel()
        probe(channel)
        second.cancel()


def test_one_connection_may_have_all_that_the_server_takes(serve: ServeLooped) -> None:
    with (
        serve(max_watchers=5, max_log_streams=3, max_concurrent_calls=7, workers=2) as looped,
        connected(looped) as client,
    ):
        client.sendall(CLIENT_PREFACE)
        settings = client.recv(4096)
        length = int.from_bytes(settings[:3], "big")
        pairs = dict(struct.iter_unpack(">HI", settings[9 : 9 + length]))
        all_calls = 2 * 5 + 3 + 2 * 7 + 256 + 2 + 256 + 64
        assert all_calls + 1 == pairs[3]  # SETTINGS_MAX_CONCURRENT_STREAMS; one more for a health check


def test_connections_over_the_limit_are_closed_and_those_that_are_open_go_on(serve: ServeLooped) -> None:
    with serve(TransportLimits(connections=2)) as looped, connect(target(looped)) as channel:
        probe(channel)
        with connected(looped) as silent, apart(looped) as another:
            with fails_with("UNAVAILABLE", ""):
                probe(another)
            probe(channel)
            silent.close()
            wait_until(lambda: _answers(another), "there is a place again")


def _answers(channel: grpc.Channel) -> bool:
    try:
        probe(channel)
    except grpc.RpcError:
        return False
    return True


@pytest.mark.parametrize("said", [b"", CLIENT_PREFACE[:20]], ids=["nothing", "half a preface"])
def test_a_connection_that_does_not_begin_is_closed(serve: ServeLooped, said: bytes) -> None:
    with serve(TransportLimits(handshake_seconds=0.5)) as looped, connected(looped) as client:
        client.sendall(said)
        read_to_end(client)


def test_an_idle_connection_is_closed_and_one_with_a_stream_is_not(serve: ServeLooped) -> None:
    with (
        serve(TransportLimits(idle_seconds=0.5)) as looped,
        apart(looped) as idle,
        apart(looped) as busy,
    ):
        states: list[grpc.ChannelConnectivity] = []
        stream = watch(busy)
        probe(idle)
        idle.subscribe(states.append)
        busy_states: list[grpc.ChannelConnectivity] = []
        busy.subscribe(busy_states.append)
        wait_until(lambda: grpc.ChannelConnectivity.IDLE in states, "it is closed")
        # The caller does not notice.
        probe(idle)
        assert stream.is_active()
        assert set(busy_states) <= {grpc.ChannelConnectivity.READY}
        stream.cancel()


WATCHER = """
import sys
from grpc_health.v1 import health_pb2, health_pb2_grpc
from container_manager_client import connect
with connect(sys.argv[1]) as channel:
    for _ in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
        print("watching", flush=True)
"""


def test_the_streams_of_a_client_that_no_longer_answers_are_ended(serve: ServeLooped) -> None:
    limits = TransportLimits(keepalive_seconds=1, keepalive_timeout_seconds=1)
    with (
        serve(limits) as looped,
        connect(target(looped)) as channel,
        subprocess.Popen(
            [sys.executable, "-c", WATCHER, target(looped)], env=child_environment(), stdout=subprocess.PIPE, text=True
        ) as client,
    ):
        try:
            assert client.stdout is not None
            assert "watching\n" == client.stdout.readline()
            stream = watch(channel)
            client.send_signal(signal.SIGSTOP)
            wait_until(lambda: looped.server.streams.count(HEALTH) == 1, "the frozen one's stream is ended")
            assert stream.is_active()
            stream.cancel()
        finally:
            client.kill()


def test_a_client_that_pings_too_often_gets_goaway(serve: ServeLooped) -> None:
    with serve() as looped, connected(looped) as client:
        client.sendall(CLIENT_PREFACE + PING * 10)
        assert (GOAWAY, ENHANCE_YOUR_CALM, b"too_many_pings") in frames_of(read_to_end(client))


def frames_of(stream: bytes) -> list[tuple[int, int, bytes]]:
    """Type, error code and debug text of each frame, as a GOAWAY has them."""
    found = []
    while len(stream) >= 9:
        length = int.from_bytes(stream[:3], "big")
        payload = stream[9 : 9 + length]
        found.append((stream[3], int.from_bytes(payload[4:8], "big"), payload[8:]))
        stream = stream[9 + length :]
    return found
