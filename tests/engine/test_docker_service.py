"""The lifecycle without gRPC: DockerService alone, against a real engine."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.errors import ContainerAlreadyExistsError, ContainerNotFoundError, InvalidBotIdError
from container_manager.model import ContainerConfig, ContainerState
from tests.support.bots import Bots
from tests.support.calls import FOREVER


def test_a_whole_life_without_grpc(docker_service: DockerService, bots: Bots) -> None:
    bot_id = bots.new()
    assert docker_service.get_container_status(bot_id) is None
    container_id = docker_service.create_container(bot_id, ContainerConfig(command=FOREVER))
    docker_service.start_container(bot_id)
    docker_service.restart_container(bot_id, 0)
    status = docker_service.get_container_status(bot_id)
    assert status is not None
    assert (container_id, ContainerState.RUNNING) == (status.container_id, status.state)
    assert status in docker_service.list_managed_containers([ContainerState.RUNNING])
    with pytest.raises(ContainerAlreadyExistsError):
        docker_service.create_container(bot_id)
    docker_service.stop_container(bot_id, 0)
    docker_service.remove_container(bot_id)
    docker_service.remove_container(bot_id)
    assert docker_service.get_container_status(bot_id) is None
    with pytest.raises(ContainerNotFoundError):
        docker_service.start_container(bot_id)


def test_docker_service_works_where_grpc_cannot_be_imported() -> None:
    program = "import sys; sys.modules['grpc'] = None; import container_manager.backends.docker.docker_service"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_method_refuses_what_is_no_bot_id(docker_service: DockerService) -> None:
    for method in (
        docker_service.create_container,
        docker_service.start_container,
        docker_service.stop_container,
        docker_service.restart_container,
        docker_service.remove_container,
        docker_service.get_container_status,
    ):
        with pytest.raises(InvalidBotIdError):
            method("../../etc")


def test_eight_bots_at_once_from_threads(docker_service: DockerService, bots: Bots) -> None:
    ids = [bots.new() for _ in range(8)]

    def live(bot_id: str) -> None:
        docker_service.create_container(bot_id, ContainerConfig(command=FOREVER))
        docker_service.start_container(bot_id)
        docker_service.stop_container(bot_id, 0)
        docker_service.remove_container(bot_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(live, ids))
    assert bots.containers() == []
