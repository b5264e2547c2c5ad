"""Kills and restarts the engine of a running service, and checks the health answers meanwhile."""

from __future__ import annotations

import time

from tests.support.faulty_world import FaultyWorld, recovery
from tests.support.health_record import NOT_SERVING, SERVING, HealthRecord


def engine_killed_and_back(world: FaultyWorld, health: HealthRecord) -> float:
    """Kill the engine and start it again; returns the seconds until the service recovered, within the limit."""
    world.engine.kill()
    killed = time.monotonic()
    noticed = killed + health.seconds_until(NOT_SERVING, killed, 5)
    starts = time.monotonic()
    world.engine.start()
    answers = time.monotonic()
    assert {NOT_SERVING} == health.said_between(noticed, starts)
    return recovery(answers, health.seconds_until(SERVING, answers, 60))
