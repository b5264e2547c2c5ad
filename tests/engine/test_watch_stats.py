"""WatchStats on a real engine: which bots, how often, and only while somebody watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_observer_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.rpc.stream_kinds import STATS
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.observing import reading
from tests.support.serving import looped_server
from tests.support.waiting import wait_until

BUSY = ("sh", "-c", "while :; do :; done")
HALF = Duration(nanos=500_000_000)


def test_a_busy_and_an_idle_bot(calls: Calls, observer: ContainerObserverStub, bots: Bots) -> None:
    busy, idle, stopped = bots.new(), bots.new(), bots.new()
    calls.run(busy, *BUSY, resources={"nano_cpus": 300_000_000, "memory_bytes": 64 * 1024 * 1024})
    calls.run(idle, *FOREVER)
    calls.create(stopped, *FOREVER)
    with reading(observer.WatchStats(pb.WatchStatsRequest(bot_ids=[busy, idle, stopped], interval=HALF))) as read:
        read.wait_for(lambda messages: [each.bot_id for each in messages].count(busy) >= 4, "figures of the busy one")
        read.wait_for(lambda messages: [each.bot_id for each in messages].count(idle) >= 2, "figures of the idle one")
    of = {bot_id: [each for each in read.messages if each.bot_id == bot_id] for bot_id in (busy, idle, stopped)}
    assert [] == of[stopped]
    # Its limit is 30 % of a core; on a busy machine it gets less.
    shares = sorted(each.cpu_percent for each in of[busy])
    assert 2 < shares[len(shares) // 2] < 60
    assert all(each.cpu_percent < 20 for each in of[idle])
    for each in (*of[busy], *of[idle]):
        assert 0 < each.memory_usage_bytes < each.memory_limit_bytes
        assert each.pids >= 1
    assert {64 * 1024 * 1024} == {each.memory_limit_bytes for each in of[busy]}
    times = [each.time.ToNanoseconds() for each in of[busy]]
    assert sorted(set(times)) == times


def test_a_restarted_bot_is_still_reported(calls: Calls, observer: ContainerObserverStub, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *BUSY, resources={"nano_cpus": 200_000_000})
    with reading(observer.WatchStats(pb.WatchStatsRequest(bot_ids=[bot_id], interval=HALF))) as read:
        read.wait_for(bool, "a first figure")
        calls.stop(bot_id, grace=0)
        calls.start(bot_id)
        restarted = calls.status(bot_id)
        assert restarted is not None
        since = restarted.start_time.ToNanoseconds()
        read.wait_for(lambda messages: messages[-1].time.ToNanoseconds() > since, "a figure after the restart")
    assert all(each.cpu_percent >= 0 for each in read.messages)


@pytest.mark.parametrize(
    "interval", [Duration(), Duration(nanos=499_999_999), Duration(seconds=-1), Duration(seconds=3601)]
)
def test_an_interval_out_of_bounds_is_refused(observer: ContainerObserverStub, interval: Duration) -> None:
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        next(observer.WatchStats(pb.WatchStatsRequest(interval=interval)))


@pytest.fixture
def proxy(engine_url: str, session_dir: Path) -> Iterator[EngineProxy]:
    with EngineProxy(engine_url, session_dir / "stats-proxy.sock") as proxy:
        yield proxy


def test_containers_are_sampled_only_while_somebody_watches(
    proxy: EngineProxy, secrets_root: Path, session_dir: Path, test_image: str, bots: Bots
) -> None:
    root = RootDirectory(secrets_root, secrets_root)
    service = BackendConfig(secrets_root=root, docker_host=proxy.url, default_image=test_image)
    config = ServerConfig(service=service, listen=(f"unix://{session_dir}/stats/s.sock",))
    with looped_server(config) as looped, connect(looped.server.addresses[0]) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        bot_id = bots.new()
        container_id = calls.run(bot_id, *FOREVER)
        assert [] == proxy.seen("/stats")
        request = pb.WatchStatsRequest(bot_ids=[bot_id], interval=HALF)
        with reading(observer.WatchStats(request)) as one, reading(observer.WatchStats(request)) as other:
            for read in (one, other):
                read.wait_for(lambda messages: len(messages) >= 3, "figures")
        asked = proxy.seen("/stats")
        assert all(container_id in line for line in asked)
        # Two watchers share samples; the first sample of each gives no figures.
        assert len(asked) < len(one.messages) + len(other.messages)
        wait_until(lambda: looped.server.streams.count(STATS) == 0, "nobody watches")
        before, pings = len(proxy.seen("/stats")), len(proxy.seen("/_ping"))
        # The health check serves as a clock: one ping a second.
        wait_until(lambda: len(proxy.seen("/_ping")) >= pings + 3, "three seconds")
        assert before == len(proxy.seen("/stats"))


@pytest.mark.slow
def test_a_hundred_running_containers_are_reported_every_two_seconds(
    calls: Calls, observer: ContainerObserverStub, bots: Bots
) -> None:
    made = [bots.new() for _ in range(100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda bot_id: calls.run(bot_id, *FOREVER, network="none"), made))
    request = pb.WatchStatsRequest(bot_ids=made, interval=Duration(seconds=2))
    with reading(observer.WatchStats(request)) as read:
        read.wait_for(lambda messages: len(messages) >= 600, "six figures of each", 60)
    of = Counter(each.bot_id for each in read.messages)
    assert set(made) == set(of)
    assert min(of.values()) >= max(of.values()) - 2
    last = read.messages[-1].time.ToNanoseconds()
    seconds = (last - read.messages[0].time.ToNanoseconds()) / 1e9
    # Engines that sample once a second by themselves deliver some figures a second late.
    assert seconds < 6 * 2 * 1.5
