"""Sizes on the disk are measured in the background, at most once a minute, while somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest

from container_manager.errors import EngineUnavailableError
from container_manager.model import DiskUse
from container_manager.stats.disk import INTERVAL_SECONDS, PATIENCE_SECONDS, DiskUses
from tests.support.virtual_loop import now, virtual


class Disk:
    """Takes a while to be measured; the sizes are how often it was."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began: list[float] = []
        self.error: Exception | None = None

    async def measure(self) -> Mapping[str, DiskUse]:
        self.began.append(now())
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return {"container": DiskUse(len(self.began))}


@virtual
async def test_it_is_measured_while_somebody_asks_and_at_most_once_a_minute() -> None:
    disk = Disk(seconds=5)
    uses = DiskUses(disk.measure)
    begun = now()
    await asyncio.sleep(300)
    assert [] == disk.began
    for _ in range(2000):
        uses.newest()
        await asyncio.sleep(0.1)
    gaps = [later - earlier for earlier, later in pairwise(disk.began)]
    assert [65, 65, 65] == [round(gap) for gap in gaps]
    assert {"container": DiskUse(4)} == uses.newest()
    await uses.close()
    assert now() - begun < 501


@pytest.mark.parametrize("seconds", [PATIENCE_SECONDS / 2, PATIENCE_SECONDS * 2])
@virtual
async def test_a_caller_waits_a_little_for_the_first_measurement_and_for_no_later_one(seconds: float) -> None:
    disk = Disk(seconds)
    uses = DiskUses(disk.measure)
    begun = now()
    first = await asyncio.gather(uses.first(), uses.first())
    is_quick = seconds < PATIENCE_SECONDS
    assert [{"container": DiskUse(1)} if is_quick else {}] * 2 == first
    assert min(seconds, PATIENCE_SECONDS) == pytest.approx(now() - begun)
    await asyncio.sleep(INTERVAL_SECONDS + 10)
    begun = now()
    assert ({"container": DiskUse(1)}, begun) == (await uses.first(), now())
    await asyncio.sleep(seconds + 1)
    assert {"container": DiskUse(2)} == await uses.first()
    await uses.close()


@pytest.mark.parametrize("error", [EngineUnavailableError("it is away"), KeyError("an answer without a size")])
@virtual
async def test_a_measurement_that_fails_keeps_the_last_one_and_is_repeated_after_a_minute(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(seconds=0)
    uses = DiskUses(disk.measure)
    known = await uses.first()
    disk.error = error
    for count in (2, 3):
        await asyncio.sleep(INTERVAL_SECONDS + 1)
        assert known == await uses.first()
        await asyncio.sleep(1)
        assert count == len(disk.began)
    assert 2 == len([each for each in caplog.messages if "could not be measured" in each])
    await uses.close()


@virtual
async def test_the_end_of_the_service_ends_a_measurement() -> None:
    disk = Disk(seconds=1000)
    uses = DiskUses(disk.measure)
    uses.newest()
    await asyncio.sleep(1)
    begun = now()
    await uses.close()
    assert begun == now()
