"""GetStats: one recent sample of each running bot, in one answer."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.model import DiskUse
from container_manager_client import connect
from tests.rpc.conftest import ServeLooped, ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.observed_service import metrics
from tests.support.observing import reading
from tests.support.scraping import value
from tests.support.waiting import wait_until


def stats(
    observer: ContainerObserverStub, *bot_ids: str, max_age: float | None = None, **how: Any
) -> dict[str, pb.ContainerStats]:
    """GetStats, by bot."""
    request = pb.GetStatsRequest(bot_ids=bot_ids)
    if max_age is not None:
        request.max_age.FromNanoseconds(int(max_age * 1e9))
    containers = observer.GetStats(request, **how).containers
    found = {each.bot_id: each for each in containers}
    assert len(found) == len(containers), "one for each"
    return found


def test_a_container_has_the_fields_of_a_message_of_watch_stats() -> None:
    def fields(message: Any) -> dict[int, str]:
        described = DescriptorProto()
        message.DESCRIPTOR.CopyToProto(described)
        return {field.number: str(field) for field in described.field}

    assert fields(pb.WatchStatsResponse).items() <= fields(pb.ContainerStats).items()
    assert set(range(1, 10)) == set(fields(pb.WatchStatsResponse))


def test_one_sample_of_each_running_bot_and_none_of_others(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots
) -> None:
    one, two, created, stopped, bare = (bots.new() for _ in range(5))
    container_id = calls.run(one)
    calls.run(two)
    calls.create(created)
    calls.run(stopped)
    calls.stop(stopped, grace=0)
    begun = time.time_ns()
    found = stats(observer)
    assert {one, two} == set(found)
    each = found[one]
    assert container_id == each.container_id
    assert 33 < each.cpu_percent < 34
    assert (1_000_000, 4_000_000) == (each.memory_usage_bytes, each.memory_limit_bytes)
    assert (10, 20, 3) == (each.network_rx_bytes, each.network_tx_bytes, each.pids)
    assert begun <= each.time.ToNanoseconds() <= time.time_ns()
    assert {two} == set(stats(observer, two, created, stopped, bare, str(uuid.uuid4())))
    assert {} == stats(observer, created)


def test_sizes_on_the_disk_are_those_last_measured_and_absent_without_any(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    both, state, none = (bots.new() for _ in range(3))
    memory.disk_uses = {calls.run(both): DiskUse(1 << 40, 0), calls.run(state): DiskUse(state_bytes=5)}
    calls.run(none)
    for _ in range(3):
        found = stats(observer)
        assert (1 << 40, 0) == (found[both].state_bytes, found[both].layer_bytes)
        assert [True, False] == [found[state].HasField(name) for name in ("state_bytes", "layer_bytes")]
        assert [False, False] == [found[none].HasField(name) for name in ("state_bytes", "layer_bytes")]
        assert 33 < found[both].cpu_percent < 34
    assert 1 == memory.disk_uses_taken


def test_the_metrics_have_the_sizes_of_all_bots(
    serve_looped: ServeLooped, unix: str, bots: MemoryBots, memory: MemoryBackend
) -> None:
    one, two = (memory.add(bots.new()) for _ in range(2))
    memory.disk_uses = {one: DiskUse(1 << 40, 7), two: DiskUse(state_bytes=5)}
    with serve_looped(unix, metrics_listen="127.0.0.1:0") as looped:

        def sizes() -> tuple[float, float]:
            text = metrics(looped)
            return value(text, "container_manager_state_bytes"), value(text, "container_manager_layer_bytes")

        wait_until(lambda: ((1 << 40) + 5, 7) == sizes(), "they are measured")


def test_a_sample_is_no_older_than_max_age_and_five_seconds_by_default(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    first = stats(observer)[bot_id]
    taken = memory.samples_taken
    for max_age in (None, 4.5, 3600.0, 315_576_000_000.0):
        assert first == stats(observer, bot_id, max_age=max_age)[bot_id]
    assert taken == memory.samples_taken
    begun = time.time_ns()
    assert begun <= stats(observer, max_age=0)[bot_id].time.ToNanoseconds()


def test_a_bot_that_was_started_again_has_a_sample_of_the_new_run(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    assert [bot_id] == list(stats(observer))
    calls.stop(bot_id, grace=0)
    assert {} == stats(observer)
    begun = time.time_ns()
    calls.start(bot_id)
    assert begun <= stats(observer)[bot_id].time.ToNanoseconds()


def test_figures_that_a_watcher_receives_are_used(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots
) -> None:
    bot_id = bots.new()
    calls.run(bot_id)
    with reading(observer.WatchStats(pb.WatchStatsRequest(interval=Duration(seconds=3600)))) as read:
        read.wait_for(bool, "figures")
        assert read.messages[0].SerializeToString() == stats(observer)[bot_id].SerializeToString()


def test_many_callers_share_samples(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    made = [bots.new() for _ in range(5)]
    for bot_id in made:
        calls.run(bot_id)
    asked = [observer.GetStats.future(pb.GetStatsRequest()) for _ in range(100)]
    assert {5} == {len(call.result().containers) for call in asked}
    assert memory.samples_taken == 2 * 5


def test_a_hundred_bots_are_answered_though_some_cannot_be_sampled(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    made = [bots.new() for _ in range(100)]
    with ThreadPoolExecutor(8) as pool:
        containers = dict(zip(made, pool.map(calls.run, made), strict=True))
    memory.stuck = {containers[bot_id] for bot_id in made[:3]}
    memory.unsampled = {containers[bot_id] for bot_id in made[3:6]}
    found = stats(observer, *made, timeout=30)
    assert set(made[6:]) == set(found)


@pytest.mark.usefixtures("early_answers")
def test_the_callers_deadline_holds(
    observer: ContainerObserverStub, calls: Calls, bots: MemoryBots, memory: MemoryBackend
) -> None:
    bot_id = bots.new()
    memory.stuck = {calls.run(bot_id)}
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        stats(observer, bot_id, timeout=2)


@pytest.mark.parametrize(
    "max_age",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=315_576_000_001),
        Duration(seconds=2**63 - 1),
    ],
    ids=str,
)
def test_a_max_age_that_is_negative_or_no_duration_is_refused(
    observer: ContainerObserverStub, max_age: Duration
) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG") as caught:
        observer.GetStats(pb.GetStatsRequest(max_age=max_age))
    assert ["max_age"] == [field for field, _ in caught[0].field_violations]


def test_too_many_bot_ids_are_refused(observer: ContainerObserverStub) -> None:
    bot_ids = [str(uuid.UUID(int=number)) for number in range(10_001)]
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        stats(observer, *bot_ids)


def test_without_an_engine_the_reason_is_told(serve_on: ServeOn, unix: str, memory: MemoryBackend) -> None:
    memory.go_away()
    with serve_on(unix) as (target,), connect(target) as channel, fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        stats(ContainerObserverStub(channel))


def test_it_takes_the_place_of_a_read(serve_on: ServeOn, unix: str, memory: MemoryBackend, bots: MemoryBots) -> None:
    bot_id = bots.new()
    with serve_on(unix, max_concurrent_calls=1) as (target,), connect(target) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        memory.stuck = {calls.run(bot_id)}
        waiting = observer.GetStats.future(pb.GetStatsRequest())
        wait_until(lambda: memory.samples_taken, "a sample that has begun")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            calls.list()
        calls.stop(bot_id, grace=0)
        waiting.cancel()
