"""Every bound of the listeners, made small, on the real server: what is over it is refused, and the rest goes on."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_inspect
from container_manager.config import ServerConfig, TransportLimits
from container_manager.rpc import stream_kinds
from container_manager.rpc.stream_kinds import HEALTH, REFLECTION
from container_manager.scheduling.streams import StreamKind
from container_manager_client import connect
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import FakeEngine, Hang, Json
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until
from tests.unit.documents import inspected, state

BOT_IDS = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(5)]
CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"\x00" * 8
GOAWAY, ENHANCE_YOUR_CALM = 7, 11

Serve = Callable[..., Any]


@pytest.fixture
def serve(server_config: Callable[..., ServerConfig], session_dir: Path) -> Serve:
    """Makes a server on a unix socket with these limits."""

    @contextmanager
    def running(limits: TransportLimits | None = None, **further: Any) -> Iterator[LoopedServer]:
        config = server_config(f"unix://{session_dir}/limits/s.sock", limits=limits or TransportLimits(), **further)
        with looped_server(config) as looped:
            yield looped

    return running


def limited(monkeypatch: pytest.MonkeyPatch, kind: StreamKind, most: int) -> StreamKind:
    """The kind with another limit, in its place in the table."""
    changed = replace(kind, limit=lambda _: most)
    table = tuple(changed if each is kind else each for each in stream_kinds.STREAM_KINDS)
    monkeypatch.setattr(stream_kinds, "STREAM_KINDS", table)
    return changed


def target(looped: LoopedServer) -> str:
    return looped.server.addresses[0]


def apart(looped: LoopedServer) -> grpc.Channel:
    """A channel with a connection of its own: gRPC has the like channels of one process share one."""
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(target(looped).replace("unix://", "unix:"), options=options)


def probe(channel: grpc.Channel, timeout: float = 60) -> int:
    """What a health check hears."""
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout).status


def watch(channel: grpc.Channel) -> Any:
    """A stream of the server's health, after its first message."""
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    next(call)
    return call


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


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_over_the_limit_is_resource_exhausted_also_when_it_was_smaller_on_the_way(
    serve: Serve, fake: FakeEngine, compression: grpc.Compression
) -> None:
    request = pb.StartContainerRequest(bot_id="x" * 20_000)
    with serve(TransportLimits(receive_bytes=10_000)) as looped, connect(target(looped)) as channel:
        stub = ContainerManagerStub(channel)
        with fails_with("RESOURCE_EXHAUSTED", "") as caught:
            stub.StartContainer(request, compression=compression)
        assert "larger than max" in caught[0].message
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            stub.StartContainer(pb.StartContainerRequest(bot_id="x" * 9_000), compression=compression)


def test_a_response_over_the_limit_is_resource_exhausted_and_5000_of_the_longest_containers_are_not(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = inspected({**state(), "Error": "x" * 4_000})
    statuses = [status_from_inspect(failed)] * 5_000
    monkeypatch.setattr(DockerLifecycle, "list_managed_containers", lambda *_, **__: statuses)
    with serve() as looped, connect(target(looped)) as channel:
        listed = ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest())
        assert 5_000 == len(listed.containers)
        assert listed.ByteSize() > 4 * 1024 * 1024
    with serve(TransportLimits(send_bytes=1_000_000)) as looped, connect(target(looped)) as channel:
        with fails_with("RESOURCE_EXHAUSTED", ""):
            Calls(ContainerManagerStub(channel)).list()
        probe(channel)


def test_changes_over_the_limit_are_refused_while_reads_and_probes_are_answered(serve: Serve, fake: FakeEngine) -> None:
    fake.on("GET", "/containers/*/json", Hang())
    fake.on("GET", "/containers/json", Json([]))
    with serve(max_concurrent_calls=2) as looped, connect(target(looped)) as channel:
        stub, places = ContainerManagerStub(channel), looped.server.places.changes
        held = [stub.StartContainer.future(pb.StartContainerRequest(bot_id=bot_id)) for bot_id in BOT_IDS[:2]]
        wait_until(lambda: places.taken == 2, "both are under way")
        for verb in ("start", "stop", "restart", "remove", "create"):
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED") as caught:
                getattr(Calls(stub), verb)(BOT_IDS[2])
        assert "there are 2 changes under way already" in caught[0].message
        assert Calls(stub).list() == []
        probe(channel)
        held[0].cancel()
        wait_until(lambda: places.taken == 1, "a place is free")
        again = stub.StartContainer.future(pb.StartContainerRequest(bot_id=BOT_IDS[3]))
        wait_until(lambda: places.taken == 2, "it is taken")
        fake.release()
        for call in (held[1], again):
            call.exception()
        wait_until(lambda: places.taken == 0, "all places are free")


def test_reads_over_the_limit_are_refused_while_changes_are_not(serve: Serve, fake: FakeEngine) -> None:
    fake.on("GET", "/containers/json", Hang())
    with serve(max_concurrent_calls=1) as looped, connect(target(looped)) as channel:
        stub = ContainerManagerStub(channel)
        held = stub.ListManagedContainers.future(pb.ListManagedContainersRequest())
        wait_until(lambda: looped.server.places.reads.taken == 1, "it is under way")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            Calls(stub).list()
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            Calls(stub).start(BOT_IDS[0])
        probe(channel)
        fake.release()
        held.exception()
        wait_until(lambda: looped.server.places.reads.taken == 0, "its place is free")


def test_a_refused_or_failed_call_keeps_no_place(serve: Serve) -> None:
    with serve(max_concurrent_calls=1) as looped, connect(target(looped)) as channel:
        for _ in range(3):
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                Calls(ContainerManagerStub(channel)).start("no bot")
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                Calls(ContainerManagerStub(channel)).status("no bot")
        assert (0, 0) == (looped.server.places.changes.taken, looped.server.places.reads.taken)


def test_health_watchers_over_the_limit_are_refused_while_checks_are_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = limited(monkeypatch, HEALTH, 2)
    with serve() as looped, connect(target(looped)) as channel, ExitStack() as stack:
        watches = [watch(channel) for _ in range(2)]
        for each in watches:
            stack.callback(each.cancel)
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            watch(channel)
        probe(channel)
        watches[0].cancel()
        wait_until(lambda: looped.server.streams.count(kind) == 1, "its place is free")
        stack.callback(watch(channel).cancel)


def test_reflections_over_the_limit_are_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = limited(monkeypatch, REFLECTION, 1)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    ended = threading.Event()

    def asked_and_left_open() -> Iterator[Any]:
        yield request
        ended.wait()

    with serve() as looped, connect(target(looped)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        first = stub.ServerReflectionInfo(asked_and_left_open())
        try:
            assert next(first).list_services_response.service
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                next(stub.ServerReflectionInfo(iter([request])))
            first.cancel()
        finally:
            ended.set()
        wait_until(lambda: looped.server.streams.count(kind) == 0, "its place is free")
        assert 1 == len(list(stub.ServerReflectionInfo(iter([request]))))


def test_a_connections_streams_over_the_limit_wait_for_one_to_end(serve: Serve) -> None:
    with serve(TransportLimits(streams_per_connection=2)) as looped, connect(target(looped)) as channel:
        first, second = watch(channel), watch(channel)
        with fails_with("DEADLINE_EXCEEDED", ""):
            probe(channel, timeout=0.3)
        with apart(looped) as another:
            probe(another)
        first.cancel()
        probe(channel)
        second.cancel()


def test_one_connection_may_have_all_that_the_server_takes(serve: Serve) -> None:
    with serve(max_watchers=5, max_log_streams=3, max_concurrent_calls=7) as looped, connected(looped) as client:
        client.sendall(CLIENT_PREFACE)
        settings = client.recv(4096)
        length = int.from_bytes(settings[:3], "big")
        pairs = dict(struct.iter_unpack(">HI", settings[9 : 9 + length]))
        all_calls = 2 * 5 + 3 + 2 * 7 + 256 + 64
        assert all_calls + 1 == pairs[3]  # SETTINGS_MAX_CONCURRENT_STREAMS; one more for a health check


def test_connections_over_the_limit_are_closed_and_those_that_are_open_go_on(serve: Serve) -> None:
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
def test_a_connection_that_does_not_begin_is_closed(serve: Serve, said: bytes) -> None:
    with serve(TransportLimits(handshake_seconds=0.5)) as looped, connected(looped) as client:
        client.sendall(said)
        read_to_end(client)


def test_an_idle_connection_is_closed_and_one_with_a_stream_is_not(serve: Serve) -> None:
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


def test_the_streams_of_a_client_that_no_longer_answers_are_ended(serve: Serve) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    limits = TransportLimits(keepalive_seconds=1, keepalive_timeout_seconds=1)
    with (
        serve(limits) as looped,
        connect(target(looped)) as channel,
        subprocess.Popen(
            [sys.executable, "-c", WATCHER, target(looped)], env=environment, stdout=subprocess.PIPE, text=True
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


def test_who_pings_too_often_is_sent_away(serve: Serve) -> None:
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
