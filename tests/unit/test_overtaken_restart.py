"""A restart whose grace period another call ended early: its answer is true, whatever the kill has reached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.backends.docker.status import status_from_inspect
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import OperationInProgressError
from container_manager.operation import GracePeriod
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Hang, Json, error
from tests.unit.documents import BOT, ID, exited, inspected, running

BY_ID = ("GET", f"/containers/{ID}/json")
KILL = ("POST", f"/containers/{ID}/kill")
RESTART = ("POST", f"/containers/{ID}/restart")
RUNNING, EXITED = Json(inspected(running())), Json(inspected(exited()))
DAY = 86_400


@pytest.fixture
def lifecycle(engine: FakeEngine, secrets_root: RootDirectory) -> Iterator[DockerLifecycle]:
    lifecycle = DockerLifecycle(BackendConfig(secrets_root=secrets_root, docker_host=engine.url))
    yield lifecycle
    lifecycle.close()


def overtaken_restart(engine: FakeEngine, lifecycle: DockerLifecycle) -> str:
    """The result of a restart whose grace period is ended early, after which it ends."""
    engine.on(*RESTART, Hang(NO_CONTENT))
    known = status_from_inspect(inspected(running()))
    restart = lifecycle.restart_container(BOT, DAY, known=known)
    period = next(restart)
    assert isinstance(period, GracePeriod)
    assert DAY == period.grace_seconds
    engine.await_request(*RESTART)
    period.ended_early = True
    period.kill().result(60)
    engine.release()
    assert period.future is not None
    period.future.result(60)
    assert not period.rest_may_block
    before = len(engine.requests)
    wait = next(restart)
    assert (True, before) == (wait.rest_may_block, len(engine.requests))
    with pytest.raises(StopIteration) as ended:
        next(restart)
    return str(ended.value.value)


@pytest.mark.parametrize("killed", [NO_CONTENT, error(409, "is not running")])
def test_a_restart_that_left_a_process_is_ok(engine: FakeEngine, lifecycle: DockerLifecycle, killed: Json) -> None:
    engine.on(*BY_ID, RUNNING)
    engine.on(*KILL, killed)
    assert ID == overtaken_restart(engine, lifecycle)
    assert (1, 1) == (len(engine.seen(*KILL)), len(engine.seen(*RESTART)))


@pytest.mark.parametrize("after", [EXITED, error(404, "No such container")])
def test_a_kill_that_reached_the_new_process_is_told(
    engine: FakeEngine, lifecycle: DockerLifecycle, after: Json
) -> None:
    engine.on(*BY_ID, RUNNING, after)
    engine.on(*KILL, NO_CONTENT)
    with pytest.raises(OperationInProgressError) as caught:
        overtaken_restart(engine, lifecycle)
    assert {"bot_id": BOT} == caught.value.metadata
    assert 1 == len(engine.seen(*RESTART))


def test_a_process_that_has_been_replaced_already_is_not_killed(engine: FakeEngine, lifecycle: DockerLifecycle) -> None:
    replaced = {**running(), "StartedAt": "2026-11-29T06:00:00.5Z"}
    engine.on(*BY_ID, Json(inspected(replaced)))
    assert ID == overtaken_restart(engine, lifecycle)
    assert [] == engine.seen(*KILL)
