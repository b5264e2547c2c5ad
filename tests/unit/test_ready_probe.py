"""The action ``ready``, where a backend can run programs in some containers only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from container_manager.actions import DeclaredActions
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError, EngineTimeoutError, NotSupportedByBackendError
from container_manager.maintenance.ready_probe import Probed, ReadyProbe
from container_manager.model import ContainerState, ContainerStatus

BOT = "00000000-0000-4000-8000-000000000001"
CONTAINER = ContainerStatus(
    "c", BOT, f"botmaker-{BOT}", ContainerState.RUNNING, "bot:1", "id", 1, action_set="openclaw"
)


@pytest.mark.parametrize(
    ("error", "probed"),
    [
        (NotSupportedByBackendError("no engine of this node is named"), None),
        (EngineTimeoutError("too slow"), Probed(1, "too slow")),
    ],
)
def test_a_program_that_cannot_run_in_the_container_says_nothing_of_its_readiness(
    error: ContainerManagerError, probed: Probed | None
) -> None:
    """Any other failure says that the bot is not ready yet."""

    class Operations:
        async def act(self, *_: Any) -> Any:
            raise error

    operations: Any = Operations()
    probe = ReadyProbe(operations, operations, DeclaredActions())
    assert probed == asyncio.run(probe.probe(CONTAINER, Deadline()))
