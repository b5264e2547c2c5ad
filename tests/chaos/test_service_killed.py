"""The service is killed with SIGKILL at random moments of a mix of operations, and started again on the same socket."""

from __future__ import annotations

import random
import signal
import time

from tests.chaos.conftest import Report
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, recovery
from tests.support.health_record import SERVING, HealthRecord
from tests.support.scale import sizes

SEED = "20261124 service killed"


@sizes("times", short=3, complete=20)
def test_a_service_that_is_killed_under_load_loses_nothing(world: FaultyWorld, report: Report, times: int) -> None:
    draw = random.Random(SEED)
    slowest = 0.0
    with HealthRecord(world.target) as health, world.mix(SEED) as mix:
        for _ in range(times):
            world.awaited_done(20)
            time.sleep(draw.random() * 0.5)
            world.recorder.broken_connections_allowed.set()
            world.service.terminate(signal.SIGKILL)
            world.service.close()
            # The stale socket and the lock file of the dead process are still there.
            assert world.socket.exists()
            assert world.socket.with_name("s.sock.lock").exists()
            world.serve()
            serves = time.monotonic()
            slowest = max(slowest, recovery(serves, health.seconds_until(SERVING, serves, 60)))
            # By then the channels of the callers are connected again.
            world.awaited_done(20)
            world.recorder.broken_connections_allowed.clear()
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    report(FaultRow("service killed, started again", times, codes.total(), codes, lost, slowest))
