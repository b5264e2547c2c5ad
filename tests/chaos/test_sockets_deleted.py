"""Socket files are deleted while the service runs: its own, and the engine's."""

from __future__ import annotations

import shutil
import stat
import time
from pathlib import Path

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.chaos.conftest import Report
from tests.support.calls import Calls
from tests.support.engine_death import engine_killed_and_back
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, recovery
from tests.support.health_record import SERVING, HealthRecord
from tests.support.observing import watching
from tests.support.scale import sizes
from tests.support.waiting import wait_until

SEED = "20261124 sockets deleted"


@sizes("times", short=2, complete=20)
def test_a_deleted_socket_of_the_service_is_there_again_within_2_s(
    world: FaultyWorld, report: Report, times: int
) -> None:
    slowest = 0.0
    # Open connections stay open: no call may fail.
    with (
        world.mix(SEED) as mix,
        connect(world.target) as channel,
        watching(ContainerObserverStub(channel)) as watch,
    ):
        for number in range(times):
            world.awaited_done(10)
            # Alternately the socket alone, and the whole directory with the lock file.
            if number % 2:
                shutil.rmtree(world.socket.parent)
            else:
                world.socket.unlink()
            deleted = time.monotonic()
            wait_until(world.socket.exists, "a new socket")
            with connect(world.target) as new_channel:
                Calls(ContainerManagerStub(new_channel)).list()
            slowest = max(slowest, recovery(deleted, time.monotonic() - deleted))
            assert 0o660 == stat.S_IMODE(world.socket.stat().st_mode)
            assert world.socket.with_name("s.sock.lock").exists()
        world.awaited_done(10)
        assert not watch.ended.is_set()
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    world.service.terminate()
    assert world.service.wait() == 0
    assert [] == list(world.socket.parent.iterdir())
    report(FaultRow("service's socket deleted", times, codes.total(), codes, lost, slowest))


@sizes("times", short=1, complete=10)
def test_a_deleted_socket_of_the_engine_is_told_and_its_restart_noticed(
    world: FaultyWorld, report: Report, times: int
) -> None:
    slowest = 0.0
    world.engine_was_down = True
    engine_socket = Path(world.engine.url.removeprefix("unix://"))
    with HealthRecord(world.target) as health, world.mix(SEED) as mix:
        for _ in range(times):
            health.seconds_until(SERVING, time.monotonic(), 60)
            world.awaited_done(20)
            engine_socket.unlink()
            # Open connections go on, so both answers are right until the engine ends.
            world.awaited_done(10)
            slowest = max(slowest, engine_killed_and_back(world, health))
            world.awaited_done(10)
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow("engine's socket deleted, engine restarted", times, codes.total(), codes, lost, slowest))
