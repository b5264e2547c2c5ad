"""The lag of the event loop is measured as it is."""

from __future__ import annotations

import asyncio

from container_manager.observability.loop_lag import LoopLag
from tests.support.virtual_loop import VirtualLoop, run


def test_a_block_of_the_loop_is_reported_with_its_length_and_an_idle_loop_is_not_late() -> None:
    reported: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        lag = LoopLag(reported.append)
        lag.start()
        await asyncio.sleep(0.95)
        # Something takes half a second of the loop's time.
        loop._now += 0.5
        await asyncio.sleep(0.95)
        lag.stop()
        await asyncio.sleep(1)

    run(main())
    late = [round(seconds, 3) for seconds in reported]
    assert 18 <= len(late) <= 19, "ten times a second"
    assert [0.45] == [seconds for seconds in late if seconds], "it was due 50 ms after the block began"
