"""Streams are bounded, and end when they should: by their caller, by a fault, by the end of the service."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.errors import InvalidStateError
from container_manager.rpc import taking
from container_manager.rpc.interceptors import reception
from container_manager.rpc.stream_kinds import CONTAINERS, LOGS, STATS
from container_manager.scheduling.streams import StreamKind
from container_manager.view.subscription import Subscription
from container_manager_client import connect
from tests.fuzz.conversations import Call
from tests.rpc.conftest import ServeLooped, ServeOn
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observing import kinds, reading, watching
from tests.support.serving import LoopedServer
from tests.support.silent_reader import silent_reader
from tests.support.waiting import wait_until

Open = Callable[[ContainerObserverStub, str], Any]
STREAMS: dict[StreamKind, Open] = {
    CONTAINERS: lambda stub, bot: stub.WatchContainers(pb.WatchContainersRequest(bot_ids=[bot])),
    LOGS: lambda stub, bot: stub.StreamLogs(pb.StreamLogsRequest(bot_id=bot, follow=True)),
    STATS: lambda stub, bot: stub.WatchStats(pb.WatchStatsRequest(bot_ids=[bot])),
}


@pytest.fixture
def limited(serve_looped: ServeLooped, session_dir: Path) -> Iterator[LoopedServer]:
    """A server that takes two streams of each kind of the observer's."""
    with serve_looped(f"unix://{session_dir}/limited/s.sock", max_watchers=2, max_log_streams=2) as looped:
        yield looped


@pytest.fixture
def bot_id(memory: MemoryBackend, bots: MemoryBots) -> str:
    """A bot that runs and has written a line."""
    bot_id = bots.new()
    memory.add(bot_id)
    memory.write(bot_id, b"here")
    return bot_id


@pytest.fixture
def channel(limited: LoopedServer) -> Iterator[grpc.Channel]:
    with connect(limited.server.addresses[0]) as channel:
        yield channel


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.label)
def test_more_streams_than_allowed_are_refused_while_statuses_answer(
    limited: LoopedServer, channel: grpc.Channel, bot_id: str, kind: StreamKind
) -> None:
    calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
    with ExitStack() as stack:
        reads = [stack.enter_context(reading(STREAMS[kind](observer, bot_id))) for _ in range(2)]
        for read in reads:
            read.wait_for(bool, "the first message")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            next(STREAMS[kind](observer, bot_id))
        wait_until(lambda: calls.status(bot_id) is not None, "the view has the new bot")
        reads[0].call.cancel()
        wait_until(lambda: limited.server.streams.count(kind) == 1, "its place is free")
        again = stack.enter_context(reading(STREAMS[kind](observer, bot_id)))
        again.wait_for(bool, "the first message of another")
    wait_until(lambda: limited.server.streams.count(kind) == 0, "all places are free")


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.label)
def test_a_stream_whose_deadline_passes_gives_its_place_back(
    limited: LoopedServer, channel: grpc.Channel, bot_id: str, kind: StreamKind
) -> None:
    call = {
        CONTAINERS: lambda stub: stub.WatchContainers(pb.WatchContainersRequest(), timeout=0.5),
        LOGS: lambda stub: stub.StreamLogs(pb.StreamLogsRequest(bot_id=bot_id, follow=True), timeout=0.5),
        STATS: lambda stub: stub.WatchStats(pb.WatchStatsRequest(), timeout=0.5),
    }[kind](ContainerObserverStub(channel))
    with reading(call) as read:
        error = read.wait_end()
    assert error is not None
    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code()
    wait_until(lambda: limited.server.streams.count(kind) == 0, "its place is free")


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (InvalidStateError("not now"), "FAILED_PRECONDITION", "INVALID_STATE"),
        (RuntimeError("a bug with a secret in it"), "INTERNAL", "INTERNAL_ERROR"),
    ],
    ids=["domain error", "bug"],
)
@pytest.mark.filterwarnings("default")
def test_an_error_after_the_first_message_has_the_contracts_code_too(
    channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch, fault: Exception, code: str, reason: str
) -> None:
    following = Subscription.next

    async def fail_later(subscription: Subscription) -> Any:
        told = await following(subscription)
        if told.entry is None:
            monkeypatch.setattr(Subscription, "next", fail_now)
        return told

    async def fail_now(_subscription: Subscription) -> Any:
        raise fault

    monkeypatch.setattr(Subscription, "next", fail_later)
    with reading(ContainerObserverStub(channel).WatchContainers(pb.WatchContainersRequest())) as read:
        error = read.wait_end()
        assert "synced" == kinds(read.messages)[-1]
    with fails_with(code, reason):
        raise error or AssertionError("it ended well")
    assert "secret" not in str(error)


def test_the_end_of_the_service_ends_every_stream_with_unavailable(
    serve_looped: ServeLooped, session_dir: Path, memory: MemoryBackend, bots: MemoryBots, bot_id: str
) -> None:
    chatty = bots.new()
    memory.add(chatty)
    for _ in range(50_000):
        memory.write(chatty, b"0123456789" * 20)
    target = f"unix://{session_dir}/ending/s.sock"
    with serve_looped(target) as looped, connect(target) as channel:
        observer = ContainerObserverStub(channel)
        with ExitStack() as stack:
            reads = [stack.enter_context(reading(open_(observer, bot_id))) for open_ in STREAMS.values()]
            for read in reads:
                read.wait_for(bool, "the first message")
            # A reader that does not read must not hold up the end either.
            stuck = observer.StreamLogs(pb.StreamLogsRequest(bot_id=chatty, follow=True))
            stack.callback(stuck.cancel)
            next(stuck)
            begun = time.monotonic()
            looped.run(looped.server.stop(60.0), 90)
            for read in reads:
                with fails_with("UNAVAILABLE", "SHUTTING_DOWN"):
                    raise read.wait_end() or AssertionError("it ended well")
        assert time.monotonic() - begun < 30


ENTRIES = 1_000


@pytest.fixture
def chatty(memory: MemoryBackend, bots: MemoryBots) -> str:
    """A bot whose log is more than gRPC and sockets hold of it, also in a client."""
    bot_id = bots.new()
    memory.add(bot_id)
    for number in range(ENTRIES):
        memory.write(bot_id, b"%d" % number + b"x" * 16_000)
    return bot_id


def test_readers_that_take_no_entry_of_a_log_keep_their_places_for_a_moment_and_followers_theirs(
    limited: LoopedServer, channel: grpc.Channel, chatty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "TAKE_SECONDS", 5.0)
    path = b"/botmaker.container.v1.ContainerObserver/StreamLogs"
    requests = [pb.StreamLogsRequest(bot_id=chatty, follow=follow) for follow in (False, True)]
    silent = [Call(path, request.SerializeToString()) for request in requests]
    with silent_reader(limited.server.addresses[0], silent):
        wait_until(lambda: limited.server.streams.count(LOGS) == 2, "they have all places")
        wait_until(lambda: limited.server.streams.count(LOGS) == 1, "one place is free")
        assert ENTRIES == len([*ContainerObserverStub(channel).StreamLogs(pb.StreamLogsRequest(bot_id=chatty))])
        assert 1 == limited.server.streams.count(LOGS)


def test_a_slow_reader_of_a_log_has_its_time_for_each_entry_and_continues_after_a_rest(
    limited: LoopedServer, channel: grpc.Channel, chatty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "TAKE_SECONDS", 3.0)
    observer = ContainerObserverStub(channel)
    entries = []
    for message in observer.StreamLogs(pb.StreamLogsRequest(bot_id=chatty)):
        entries.append(message.entry)
        time.sleep(0.005)
    assert ENTRIES == len(entries)
    stream = observer.StreamLogs(pb.StreamLogsRequest(bot_id=chatty))
    taken = [next(stream).entry]
    wait_until(lambda: limited.server.streams.count(LOGS) == 0, "it has ended")
    with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
        taken.extend(message.entry for message in stream)
    assert len(taken) < ENTRIES
    rest = observer.StreamLogs(pb.StreamLogsRequest(bot_id=chatty, after_cursor=taken[-1].cursor))
    assert entries == [*taken, *(message.entry for message in rest)]


def test_a_watch_while_the_engine_is_away_is_refused_at_once(
    serve_on: ServeOn, session_dir: Path, memory: MemoryBackend, bot_id: str
) -> None:
    memory.go_away()
    with serve_on(f"unix://{session_dir}/away/s.sock") as addresses, connect(addresses[0]) as channel:
        observer = ContainerObserverStub(channel)
        for open_ in STREAMS.values():
            with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
                next(open_(observer, bot_id))


def test_watchers_are_served_side_by_side(calls: Calls, observer: ContainerObserverStub, bots: MemoryBots) -> None:
    bot_id = bots.new()
    with ExitStack() as stack:
        watches = [stack.enter_context(watching(observer, [bot_id])) for _ in range(50)]
        container_id = calls.create(bot_id, *FOREVER)
        for watch in watches:
            told = watch.wait_for(lambda messages: messages[-1].changed.container_id, "the change")
            assert container_id == told


NAMING = {
    CONTAINERS: lambda stub, bots: stub.WatchContainers(pb.WatchContainersRequest(bot_ids=bots)),
    STATS: lambda stub, bots: stub.WatchStats(pb.WatchStatsRequest(bot_ids=bots)),
}


@pytest.mark.parametrize("kind", NAMING, ids=lambda kind: kind.label)
def test_the_bot_ids_and_labels_that_open_streams_keep_are_bounded_whichever_streams_name_them(
    limited: LoopedServer, channel: grpc.Channel, bot_id: str, kind: StreamKind
) -> None:
    """Each id costs memory for as long as its stream is open; of two watchers, this server keeps 200."""
    observer = ContainerObserverStub(channel)
    many = [bot_id, *(str(uuid.uuid4()) for _ in range(149))]
    with reading(NAMING[kind](observer, many)) as first:
        first.wait_for(bool, "the first message")
        for other in NAMING.values():
            with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
                next(other(observer, many[:51]))
        with reading(NAMING[kind](observer, [])) as second:
            second.wait_for(bool, "a watcher of all names none")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            labels = {str(number): "" for number in range(51)}
            next(observer.WatchContainers(pb.WatchContainersRequest(labels=labels)))
        with reading(NAMING[kind](observer, many[:50])) as second:
            second.wait_for(bool, "a watcher that names fewer")
    wait_until(lambda: limited.server.streams.count(kind) == 0, "all have gone")
    with reading(NAMING[kind](observer, many)) as again:
        again.wait_for(bool, "the ids of the streams before are free")
    with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
        next(NAMING[kind](observer, [str(uuid.uuid4()) for _ in range(201)]))


class Decoded:
    """A request; unlike a message, it can be referred to weakly."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


@pytest.mark.parametrize("kind", STREAMS, ids=lambda kind: kind.label)
def test_an_open_stream_does_not_keep_the_message_of_its_request(
    limited: LoopedServer, channel: grpc.Channel, bot_id: str, kind: StreamKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message with 1,000 labels takes 150 KB."""
    requests: list[weakref.ref[Decoded]] = []
    decode = reception._decoded

    def decoded(deserialize: Any, data: bytes) -> Decoded:
        requests.append(weakref.ref(request := Decoded(decode(deserialize, data))))
        return request

    monkeypatch.setattr(reception, "_decoded", decoded)
    with reading(STREAMS[kind](ContainerObserverStub(channel), bot_id)) as stream:
        stream.wait_for(bool, "the first message")
        assert 1 == limited.server.streams.count(kind)
        assert [None] == [request() for request in requests]
