"""Many stops with long grace periods: neither other bots nor a shorter grace period wait for them."""

from __future__ import annotations

import threading

from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.calls import FOREVER, Calls
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.threads import started_since

MINUTE = Duration(seconds=60)


def test_two_hundred_stops_in_flight_hold_up_no_create_start_or_remove_and_cost_no_threads(
    rpc: Calls, memory: MemoryBackend, bots: MemoryBots
) -> None:
    stubborn = [bots.new() for _ in range(200)]
    for bot_id in stubborn:
        memory.add(bot_id, stubborn=True)
    other = bots.new()
    rpc.run(other, *FOREVER)
    threads = set(threading.enumerate())
    stops = [
        rpc.stub.StopContainer.future(pb.StopContainerRequest(bot_id=bot_id, grace_period=MINUTE))
        for bot_id in stubborn
    ]
    memory.await_calls("stop_container", 200)
    # Workers that began the stops; fewer than there are stops, and none for a wait.
    started = started_since(threads)
    assert len(started) <= 64, started
    rpc.stop(other, grace=0)
    rpc.start(other)
    rpc.remove(other, grace=0)
    assert not any(stop.done() for stop in stops)
    for bot_id in stubborn:
        rpc.remove(bot_id, grace=0)
    assert [pb.StopContainerResponse()] * 200 == [stop.result(timeout=60) for stop in stops]
    assert {} == memory.containers
