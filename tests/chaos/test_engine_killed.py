"""The engine is killed with SIGKILL and started again, repeatedly, during a mix of operations."""

from __future__ import annotations

import time

from tests.chaos.conftest import Report
from tests.support.engine_death import engine_killed_and_back
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld
from tests.support.health_record import SERVING, HealthRecord
from tests.support.scale import sizes

SEED = "20261124 engine killed"


@sizes("times", short=2, complete=20)
def test_an_engine_that_is_killed_under_load_loses_nothing(world: FaultyWorld, report: Report, times: int) -> None:
    slowest = 0.0
    world.engine_was_down = True
    with HealthRecord(world.target) as health, world.mix(SEED) as mix:
        for _ in range(times):
            health.seconds_until(SERVING, time.monotonic(), 60)
            world.awaited_done(30)
            slowest = max(slowest, engine_killed_and_back(world, health))
        world.awaited_done(30)
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow("engine killed, started again", times, codes.total(), codes, lost, slowest))
