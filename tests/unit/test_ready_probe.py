"""The action ``ready``, where a backend can run programs in some containers only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from container_manager.actions import DeclaredActions
from container_manager.backend_provisioning import ActionResult
from container_manager.deadline import Deadline
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    NotSupportedByBackendError,
)
from container_manager.maintenance.ready_probe import Probed, ReadyProbe
from container_manager.model import ContainerState, ContainerStatus
from container_manager.scheduling.bot_operations import BotOperations
from tests.unit.working import Work, happens, run

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


def test_a_probe_does_not_wait_for_the_actions_of_callers(works: Callable[..., Work]) -> None:
    """Theirs may hang, also after their callers have gone."""

    class Ready:
        def run(self, *_: Any, **__: Any) -> ActionResult:
            return ActionResult(0, b"ready\n", b"")

    async def scenario(operations: BotOperations) -> None:
        hung = [works() for _ in range(3)]
        calls = [asyncio.create_task(operations.act(f"bot-{n}", each, Deadline())) for n, each in enumerate(hung)]
        for each in hung[:2]:
            await happens(each.begun)
        actions: Any = Ready()
        assert Probed(0, "ready") == await ReadyProbe(actions, operations, DeclaredActions()).probe(
            CONTAINER, Deadline(5)
        )
        for each in hung:
            each.go.set()
        await asyncio.gather(*calls)

    run(scenario, workers=2)


def test_a_probe_without_a_worker_raises() -> None:
    class Operations:
        async def act(self, *_: Any) -> Any:
            raise CapacityExceededError("no worker")

    operations: Any = Operations()
    with pytest.raises(CapacityExceededError):
        asyncio.run(ReadyProbe(operations, operations, DeclaredActions()).probe(CONTAINER, Deadline()))
