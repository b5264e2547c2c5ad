"""The engine and its containerd are stopped with SIGSTOP during a mix of operations, and continued."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from dev.remains import helpers
from tests.chaos.conftest import Report
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, recovery
from tests.support.health_record import NOT_SERVING, SERVING, HealthRecord
from tests.support.scale import sizes

SEED = "20261124 engine frozen"
# The health check runs every second and waits for two; doubled for a busy machine.
NOTICED_WITHIN_SECONDS = 6.0


@sizes("seconds", short=4, complete=30)
def test_an_engine_that_freezes_under_load_loses_nothing(world: FaultyWorld, report: Report, seconds: int) -> None:
    # Shorter than the complete freeze, so that calls meet their deadlines in it.
    deadline_seconds = min(10.0, seconds / 2)
    with HealthRecord(world.target) as health, world.mix(SEED, seconds=deadline_seconds) as mix:
        health.seconds_until(SERVING, time.monotonic(), 60)
        world.awaited_done(30)
        frozen = _freeze(world)
        try:
            begun = time.monotonic()
            noticed = begun + health.seconds_until(NOT_SERVING, begun, NOTICED_WITHIN_SECONDS)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
            thaws = time.monotonic()
        finally:
            _thaw(frozen)
        assert {NOT_SERVING} == health.said_between(noticed, thaws)
        slowest = recovery(thaws, health.seconds_until(SERVING, thaws, 60))
        world.awaited_done(30)
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    assert codes["DEADLINE_EXCEEDED"] > 0
    assert "ENGINE_TIMEOUT" in {outcome.reason for outcome in world.recorder.outcomes}
    report(FaultRow(f"engine frozen for {seconds} s", 1, codes.total(), codes, lost, slowest))


def _freeze(world: FaultyWorld) -> list[int]:
    dockerd = world.engine.pid
    # A process that containerd has just forked has its name until it executes its own program.
    runtime = Path(world.engine.url.removeprefix("unix://")).parent
    (containerd,) = (pid for pid in helpers(runtime, "containerd") if _parent(pid) == dockerd)
    frozen = [dockerd, containerd]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    return frozen


def _parent(pid: int) -> int | None:
    """The process id of a process's parent; ``None`` for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.split("PPid:")[1].split()[0])


def _thaw(frozen: list[int]) -> None:
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGCONT)
