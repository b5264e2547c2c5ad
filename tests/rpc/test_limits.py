"""Limits of messages, calls and streams, made small: what exceeds one is refused, and the rest goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.config import TransportLimits
from container_manager.model import ContainerState
from container_manager.rpc import stream_kinds
from container_manager.rpc.interceptors import reception
from container_manager.rpc.stream_kinds import CONTAINERS, HEALTH, REFLECTION
from container_manager.scheduling.streams import StreamKind
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped
from tests.support.calls import Calls, fails_with
from tests.support.health_calls import probe, watch
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.waiting import wait_until

BOT_IDS = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(5)]


@pytest.fixture
def serve(serve_looped: ServeLooped, session_dir: Path) -> ServeLooped:
    """Makes a server on a unix socket with these limits."""
    return lambda limits=None, **further: serve_looped(
        f"unix://{session_dir}/limits/s.sock", limits=limits or TransportLimits(), **further
    )


def limited(monkeypatch: pytest.MonkeyPatch, kind: StreamKind, most: int) -> StreamKind:
    """The kind with another limit, in its place in the table."""
    changed = replace(kind, limit=lambda _: most)
    table = tuple(changed if each is kind else each for each in stream_kinds.STREAM_KINDS)
    monkeypatch.setattr(stream_kinds, "STREAM_KINDS", table)
    return changed


def a_create(bot_id: str, size: int) -> pb.CreateContainerRequest:
    return pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(command=["x" * size]))


def test_larger_requests_under_way_are_bounded_in_all_and_small_ones_are_not(
    serve: ServeLooped, memory: MemoryBackend, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of all services: they wait for a bot's turn, are pulled for, or are being written."""
    monkeypatch.setattr(reception, "MAX_KEPT_BYTES", 300_000)
    busy, other = bots.new(), bots.new()
    with serve() as looped, connect(looped.server.addresses[0]) as channel:
        manager, provisioner = ContainerManagerStub(channel), BotProvisionerStub(channel)
        files = provisioner_pb.PutFilesRequest(bot_id=other, files={"a": bytes(100_000)})
        with memory.held("create_container"):
            held = [manager.CreateContainer.future(a_create(busy, 100_000)) for _ in range(2)]
            wait_until(lambda: looped.server.places.changes.taken == 2, "one is made, and one waits for its turn")
            for refused in (
                lambda: manager.CreateContainer(a_create(busy, 100_000)),
                lambda: provisioner.PutFiles(files),
            ):
                with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                    refused()
            small = provisioner_pb.PutSecretsRequest(bot_id=other, secrets={"A": b"small ones are written"})
            provisioner.PutSecrets(small)
        for each in held:
            each.exception()
        provisioner.PutFiles(files)


def test_larger_requests_of_open_streams_are_bounded_by_themselves(
    serve: ServeLooped, bots: MemoryBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "MAX_KEPT_BY_STREAMS_BYTES", 300_000)
    large = observer_pb.WatchContainersRequest(labels={"key": "x" * 200_000})
    with serve() as looped, connect(looped.server.addresses[0]) as channel:
        observer = ContainerObserverStub(channel)
        first = observer.WatchContainers(large)
        next(first)
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            next(observer.WatchContainers(large))
        next(observer.WatchContainers(observer_pb.WatchContainersRequest()))
        ContainerManagerStub(channel).CreateContainer(a_create(bots.new(), 100_000))
        first.cancel()
        wait_until(lambda: looped.server.streams.count(CONTAINERS) == 1, "it has ended")
        next(observer.WatchContainers(large))


def test_a_request_of_health_or_reflection_may_be_as_long_as_a_name(serve: ServeLooped) -> None:
    """They are kept as long as the stream, and health needs no token."""
    name = "x" * (reception.MAX_NAME_BYTES + 1)
    with serve() as looped, connect(looped.server.addresses[0]) as channel:
        health, reflection = health_pb2_grpc.HealthStub(channel), reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)])
        for call in (
            lambda: health.Check(health_pb2.HealthCheckRequest(service=name)),
            lambda: next(health.Watch(health_pb2.HealthCheckRequest(service=name))),
            lambda: next(reflection.ServerReflectionInfo(asked)),
        ):
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
                call()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_over_the_limit_is_resource_exhausted_also_when_it_was_smaller_on_the_way(
    serve: ServeLooped, compression: grpc.Compression
) -> None:
    request = pb.StartContainerRequest(bot_id="x" * 20_000)
    with serve(TransportLimits(receive_bytes=10_000)) as looped, connect(looped.server.addresses[0]) as channel:
        stub = ContainerManagerStub(channel)
        with fails_with("RESOURCE_EXHAUSTED", "") as caught:
            stub.StartContainer(request, compression=compression)
        assert "larger than max" in caught[0].message
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            stub.StartContainer(pb.StartContainerRequest(bot_id="x" * 9_000), compression=compression)


def test_a_response_over_the_limit_is_resource_exhausted_and_5000_of_the_longest_containers_are_not(
    serve: ServeLooped, without_notices: MemoryBackend
) -> None:
    for number in range(5_000):
        without_notices.add(f"{number:08x}-0000-4000-8000-000000000000", ContainerState.CREATED, error="x" * 4_000)
    with serve() as looped, connect(looped.server.addresses[0]) as channel:
        listed = ContainerManagerStub(channel).ListManagedContainers(pb.ListManagedContainersRequest())
        assert 5_000 == len(listed.containers)
        assert listed.ByteSize() > 4 * 1024 * 1024
    with serve(TransportLimits(send_bytes=1_000_000)) as looped, connect(looped.server.addresses[0]) as channel:
        with fails_with("RESOURCE_EXHAUSTED", ""):
            Calls(ContainerManagerStub(channel)).list()
        probe(channel)


def test_changes_over_the_limit_are_refused_while_reads_and_probes_are_answered(
    serve: ServeLooped, memory: MemoryBackend
) -> None:
    with (
        memory.held("start_container") as gate,
        serve(max_concurrent_calls=2) as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
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
        gate.open()
        for call in (held[1], again):
            call.exception()
        wait_until(lambda: places.taken == 0, "all places are free")


def test_reads_over_the_limit_are_refused_while_changes_are_not(
    serve: ServeLooped, without_notices: MemoryBackend
) -> None:
    with (
        without_notices.held("list_managed_containers") as gate,
        serve(max_concurrent_calls=1) as looped,
        connect(looped.server.addresses[0]) as channel,
    ):
        stub = ContainerManagerStub(channel)
        held = stub.ListManagedContainers.future(pb.ListManagedContainersRequest())
        wait_until(lambda: looped.server.places.reads.taken == 1, "it is under way")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            Calls(stub).list()
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            Calls(stub).start(BOT_IDS[0])
        probe(channel)
        gate.open()
        held.exception()
        wait_until(lambda: looped.server.places.reads.taken == 0, "its place is free")


def test_a_refused_or_failed_call_keeps_no_place(serve: ServeLooped) -> None:
    with serve(max_concurrent_calls=1) as looped, connect(looped.server.addresses[0]) as channel:
        for _ in range(3):
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                Calls(ContainerManagerStub(channel)).start("no bot")
            with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
                Calls(ContainerManagerStub(channel)).status("no bot")
        assert (0, 0) == (looped.server.places.changes.taken, looped.server.places.reads.taken)


def test_health_watchers_over_the_limit_are_refused_while_checks_are_answered(
    serve: ServeLooped, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = limited(monkeypatch, HEALTH, 2)
    with serve() as looped, connect(looped.server.addresses[0]) as channel, ExitStack() as stack:
        watches = [watch(channel) for _ in range(2)]
        for each in watches:
            stack.callback(each.cancel)
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            watch(channel)
        probe(channel)
        watches[0].cancel()
        wait_until(lambda: looped.server.streams.count(kind) == 1, "its place is free")
        stack.callback(watch(channel).cancel)


def test_reflections_over_the_limit_are_refused(serve: ServeLooped, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = limited(monkeypatch, REFLECTION, 1)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    ended = threading.Event()

    def asked_and_left_open() -> Iterator[Any]:
        yield request
        ended.wait()

    with serve() as looped, connect(looped.server.addresses[0]) as channel:
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
