"""What an operation in a worker thread waits for on the event loop is given back if the operation gives way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from container_manager.errors import OperationInProgressError
from container_manager.maintenance import long_runs
from container_manager.maintenance.long_runs import LoopWaits
from container_manager.operation import Operation, carry_out
from container_manager.scheduling.starts import Starts

Wait = Callable[[LoopWaits], Operation[Any]]
WAITS: dict[str, tuple[Wait, Callable[[Any], None]]] = {
    "a start": (lambda waits: waits.admit("bot", Mock()), lambda place: place.end(started=False)),
    "the disk": (lambda waits: waits.hold_disk(Mock()), lambda release: release()),
}


@pytest.mark.parametrize("has_its_place", [False, True])
@pytest.mark.parametrize(("wait", "end"), WAITS.values(), ids=WAITS)
def test_a_place_is_given_back_whenever_the_operation_gives_way(
    wait: Wait, end: Callable[[Any], None], has_its_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_runs, "_STATES_AT_ONCE", 1)

    async def main() -> None:
        waits = LoopWaits(Mock(), Mock(), Mock(), starts := Starts(1))
        waits.loop = asyncio.get_running_loop()

        def others() -> None:
            carried = [] if has_its_place else [carry_out(wait(waits))]
            giving_way = wait(waits)
            future = next(giving_way).future
            assert future is not None
            if has_its_place:
                future.result(10)
            else:
                next(giving_way)
            with pytest.raises(OperationInProgressError):
                giving_way.throw(OperationInProgressError("a stop"))
            for place in carried:
                end(place)
            # Whoever comes next has it.
            carry_out(wait(waits))

        await asyncio.wait_for(asyncio.to_thread(others), 10)
        assert 0 == starts.waiting

    asyncio.run(main())
