"""A stop whose answer is lost: a shorter grace period ends its turn all the same."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_inspect
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Hang, Json
from tests.unit.documents import BOT, ID, exited, inspected, running
from tests.unit.working import run

BY_ID = ("GET", f"/containers/{ID}/json")
KILL, STOP = (("POST", f"/containers/{ID}/{verb}") for verb in ("kill", "stop"))
DAY = 86_400


@pytest.mark.parametrize(
    ("shown", "first"), [(exited(137), ID), (running(), EngineTimeoutError)], ids=["it has ended", "it runs"]
)
def test_a_stop_without_an_answer_is_settled_after_the_kill_by_what_the_engine_shows(
    engine: FakeEngine, secrets_root: RootDirectory, shown: dict[str, Any], first: Any
) -> None:
    engine.on(*STOP, Hang(), NO_CONTENT)
    engine.on(*KILL, NO_CONTENT)
    engine.on(*BY_ID, Json(inspected(shown)))
    config = BackendConfig(secrets_root=secrets_root, docker_host=engine.url, engine_timeout_seconds=1)
    lifecycle = DockerLifecycle(config)
    known = status_from_inspect(inspected(running()))

    async def scenario(operations: BotOperations) -> None:
        def stop(grace: int) -> asyncio.Task[str]:
            work = partial(lifecycle.stop_container, BOT, grace, known=known)
            change = operations.change(
                WorkerPool.CHANGE, BOT, lambda _: work(), Deadline(DAY + 60), grace_seconds=grace
            )
            return asyncio.create_task(change)

        lost = stop(DAY)
        await asyncio.to_thread(engine.await_request, *STOP)
        assert ID == await stop(0)
        [outcome] = await asyncio.gather(lost, return_exceptions=True)
        assert first in (outcome, type(outcome))

    try:
        run(scenario)
    finally:
        engine.release()
        lifecycle.close()
    assert 1 == len(engine.seen(*KILL))
    assert [str(DAY), "0"] == [request.query["t"] for request in engine.seen(*STOP)]
