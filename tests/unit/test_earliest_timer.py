"""One timer for many times, on the service's own event loop."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import uvloop

from container_manager.scheduling.earliest_timer import EarliestTimer


def test_it_fires_at_the_earliest_time_and_when_set_again_also_for_a_moment_that_has_passed() -> None:
    async def scenario() -> None:
        loop, fired = asyncio.get_running_loop(), asyncio.Event()
        timer = EarliestTimer(fired.set)
        for after in (3_600, -1, 3_600):
            timer.set(loop.time() + after)
        assert timer.is_set
        await asyncio.wait_for(fired.wait(), 60)
        assert not timer.is_set
        fired.clear()
        timer.set(loop.time())
        await asyncio.wait_for(fired.wait(), 60)

    uvloop.run(scenario())


def test_it_fires_outside_the_context_of_the_call_that_set_it() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []

    async def scenario() -> None:
        fired = asyncio.Event()

        def fire() -> None:
            seen.append(request.get())
            fired.set()

        request.set("a call's")
        EarliestTimer(fire).set(0)
        await asyncio.wait_for(fired.wait(), 60)

    uvloop.run(scenario())
    assert ["none"] == seen
