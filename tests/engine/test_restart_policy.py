"""Conformance 8: the restart policy restarts crashed processes, and a stopped container stays stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.model import ContainerConfig, ContainerState, ExitReason
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.waiting import wait_until

CRASH = ("sh", "-c", "sleep 0.2; exit 3")


def test_conformance_08_a_crashed_process_is_revived_and_counted(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *CRASH)

    def revived_twice() -> bool:
        status = calls.status(bot_id)
        return status is not None and status.restart_count >= 2

    wait_until(revived_twice, "two revivals")

    def seen_restarting() -> pb.ContainerStatus | None:
        status = calls.status(bot_id)
        return status if status is not None and status.state == pb.CONTAINER_STATE_RESTARTING else None

    status = wait_until(seen_restarting, "the wait between two runs")
    assert status.exit_code == 3
    assert status.exit_reason == pb.EXIT_REASON_ERROR
    calls.stop(bot_id, grace=1)
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert stopped.state == pb.CONTAINER_STATE_EXITED


@pytest.fixture
def own(private_engine: PrivateEngine, tmp_path: Path) -> Iterator[tuple[DockerService, Bots]]:
    """The service on the private engine, which may be restarted."""
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    bots = Bots(client, tmp_path)
    root = RootDirectory(tmp_path, tmp_path)
    image = ensure_test_image(private_engine.url)
    service = DockerService(BackendConfig(secrets_root=root, docker_host=private_engine.url, default_image=image))
    yield service, bots
    bots.remove_all()
    service.close()
    client.close()


@pytest.mark.parametrize("how", ["restarted", "lost its power"])
def test_conformance_08_a_stop_outlives_the_engine_also_amid_a_crash_loop(
    own: tuple[DockerService, Bots], private_engine: PrivateEngine, how: str
) -> None:
    service, bots = own
    stopped, looping, loop_stopped, running = (bots.new() for _ in range(4))
    commands = {stopped: ("sleep", "100000"), looping: CRASH, loop_stopped: CRASH, running: ("sleep", "100000")}
    for bot_id, command in commands.items():
        service.create_container(bot_id, ContainerConfig(command=command))
        service.start_container(bot_id)

    def in_a_long_wait() -> bool:
        """The engine doubles its wait each time; the first waits may be over before the stop arrives."""
        found = status(service, loop_stopped)
        return found.state is ContainerState.RESTARTING and found.restart_count >= 4

    wait_until(in_a_long_wait, "amid the crash loop")
    service.stop_container(loop_stopped, 1)
    service.stop_container(stopped, 0)
    if how == "lost its power":
        # The processes end with the engine. After a crash of the engine alone, 20.10 stops live containers for good.
        private_engine.kill(containers=True)
        private_engine.start()
    else:
        private_engine.restart()
    wait_until(lambda: state(service, running) is ContainerState.RUNNING, "what ran runs again")
    wait_until(lambda: count(service, looping) >= 1, "what looped loops")
    assert state(service, stopped) is ContainerState.EXITED
    assert state(service, loop_stopped) is ContainerState.EXITED
    assert status(service, loop_stopped).exit_reason is ExitReason.ERROR


def status(service: DockerService, bot_id: str):
    """The bot's status, which must exist."""
    found = service.get_container_status(bot_id)
    assert found is not None
    return found


def state(service: DockerService, bot_id: str) -> ContainerState | None:
    """The bot's state."""
    return status(service, bot_id).state


def count(service: DockerService, bot_id: str) -> int:
    """How often the engine restarted the bot."""
    return status(service, bot_id).restart_count
