"""Callers that send most of their requests and then nothing, on every listener, while others make calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.chaos.conftest import Report
from tests.support.fault_table import FaultRow
from tests.support.faulty_world import FaultyWorld, faulty_world
from tests.support.scale import sizes
from tests.support.stalled_senders import (
    CREATE,
    HEALTH_CHECK,
    HEALTH_WATCH,
    MOST_GROWTH_BYTES,
    REFLECTION,
    SENDERS,
    STREAM_LOGS,
    StalledSenders,
)
from tests.support.waiting import wait_until

SEED = "20261129 stalled senders"
# For the calls of the mix, which are under way meanwhile.
MIX_BYTES = 32 * 2**20


@pytest.fixture
def world_on_tcp(faulty_engine: PrivateEngine, short_directory: Path, tmp_path: Path) -> Iterator[FaultyWorld]:
    """The service on a unix socket and on TCP with a token."""
    options = ("--listen", "tcp://127.0.0.1:0", "--token-file", str(short_directory / "token"))
    image = ensure_test_image(faulty_engine.url)
    with faulty_world(faulty_engine, image, short_directory, tmp_path, options) as world:
        yield world


@sizes("times", short=1, complete=10)
def test_stalled_senders_on_every_listener_cost_bounded_memory_end_by_themselves_and_fail_no_other_call(
    world_on_tcp: FaultyWorld, report: Report, short_directory: Path, times: int
) -> None:
    world = world_on_tcp
    unix, tcp = world.service.line.split()[-2:]
    token = (b"authorization", f"Bearer {(short_directory / 'token').read_text().strip()}".encode())
    kinds: list[tuple[Any, ...]] = [(unix, path) for path in (CREATE, HEALTH_WATCH, REFLECTION)]
    kinds += [(tcp, path, token) for path in (CREATE, STREAM_LOGS, REFLECTION)] + [(tcp, HEALTH_CHECK)]
    with world.mix(SEED) as mix:
        world.awaited_done(50)
        before = world.service.peak_memory_bytes()
        for _ in range(times):
            with ExitStack() as stack:
                stalled = [stack.enter_context(StalledSenders(*kind)) for kind in kinds]
                world.awaited_done(10)
                for each in stalled:
                    wait_until(lambda ended=each.ended: len(ended) == SENDERS, "every stalled call is ended")
        growth = world.service.peak_memory_bytes() - before
        world.awaited_done(10)
    lost = world.settled(mix.entries, wrong=mix.wrong)
    codes = world.recorder.codes()
    assert {"OK", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"} >= set(codes)
    # Calls, health and reflections are received apart, on each of two listeners.
    assert growth < 6 * MOST_GROWTH_BYTES + MIX_BYTES, f"{growth / 2**20:.0f} MiB"
    fault = f"{len(kinds) * SENDERS} stalled senders, +{growth // 2**20} MiB"
    report(FaultRow(fault, times, codes.total(), codes, lost))
