"""The engine killed with SIGKILL and started again, again and again, under a running mix of operations."""

from __future__ import annotations

import time

from tests.chaos.conftest import Report
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, recovery
from tests.support.health_record import NOT_SERVING, SERVING, HealthRecord
from tests.support.scale import sizes

SEED = "20261124 engine killed"


@sizes("times", short=2, complete=20)
def test_an_engine_that_is_killed_under_load_loses_nothing(world: FaultyWorld, report: Report, times: int) -> None:
    slowest = 0.0
    world.engine_was_down = True
    with HealthRecord(world.target) as health, world.mix(SEED) as mix:
        for _ in range(times):
            health.seconds_until(SERVING, time.monotonic(), 10)
            world.awaited_done(30)
            world.engine.kill()
            killed = time.monotonic()
            noticed = killed + health.seconds_until(NOT_SERVING, killed, 5)
            starts = time.monotonic()
            world.engine.start()
            answers = time.monotonic()
            assert {NOT_SERVING} == health.said_between(noticed, starts)
            slowest = max(slowest, recovery(answers, health.seconds_until(SERVING, answers, 10)))
        world.awaited_done(30)
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow("engine killed, started again", times, codes.total(), codes, lost, slowest))
