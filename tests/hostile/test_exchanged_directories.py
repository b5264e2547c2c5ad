"""Another user keeps replacing a bot's directory with a link, while containers are created and started."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import docker
import pytest
from docker.models.containers import Container

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import SecretsUnavailableError, StateUnavailableError
from container_manager.model import ContainerConfig
from tests.support.bots import NODE_UID, Bots
from tests.support.calls import FOREVER
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")

TIMES = 6


class Exchanger(threading.Thread):
    """Replaces a path with a link to a target and back, repeatedly, as another user; counts ``tried``, ``done``."""

    def __init__(self, path: Path, target: Path, uid: int) -> None:
        super().__init__(name="exchanger")
        self.done = self.tried = 0
        self._path, self._target, self._uid = path, target, uid
        self._stopped = threading.Event()

    def run(self) -> None:
        # Affects this thread only, and drops root's file capabilities (setfsuid(2), capabilities(7)).
        ctypes.CDLL(None).setfsuid(self._uid)
        away = self._path.with_suffix(".away")
        while not self._stopped.is_set():
            self.tried += 1
            with suppress(OSError):
                self._path.rename(away)
                self._path.symlink_to(self._target)
                self._path.unlink()
                away.rename(self._path)
                self.done += 1

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: self.tried, "it has begun")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()


@pytest.fixture
def elsewhere(session_dir: Path) -> Path:
    """The target of the link: outside every root, and readable, like many files on a machine."""
    directory = Path(tempfile.mkdtemp(prefix="e", dir=session_dir))
    directory.chmod(0o755)
    (directory / "ELSEWHERE").write_text("not for bots")
    return directory


@pytest.fixture
def roots(session_dir: Path) -> tuple[Path, Path]:
    """Empty roots for secrets and state."""
    made = [Path(tempfile.mkdtemp(prefix="r", dir=session_dir)) for _ in range(2)]
    for root in made:
        root.chmod(0o755)
    return made[0], made[1]


@pytest.fixture
def bots(engine: docker.DockerClient, roots: tuple[Path, Path], all_bot_ids: list[str]) -> Iterator[Bots]:
    """Bots in that secrets root."""
    made = Bots(engine, roots[0], all_bot_ids)
    yield made
    made.remove_all()


@pytest.fixture
def service(service_config: BackendConfig, roots: tuple[Path, Path]) -> Iterator[DockerService]:
    """The service on those roots."""
    secrets, state = (RootDirectory(root, root) for root in roots)
    service = DockerService(replace(service_config, secrets_root=secrets, state_root=state))
    yield service
    service.close()


def inodes(container: Container) -> set[int]:
    """Those of the bot's directories inside the container."""
    command = ["stat", "-c", "%i", "/run/secrets", "/home/node/.openclaw"]
    return {int(number) for number in container.exec_run(command, user="1000").output.split()}


@pytest.mark.parametrize("which", ["secrets", "state"])
def test_the_bots_own_user_cannot_exchange_its_directory_and_every_container_mounts_the_right_one(
    service: DockerService, bots: Bots, roots: tuple[Path, Path], elsewhere: Path, which: str
) -> None:
    bot_id = bots.new_openclaw()
    service.create_container(bot_id, ContainerConfig(command=FOREVER))
    service.remove_container(bot_id, 0)
    directory = roots[which == "state"] / bot_id
    expected = {(roots[0] / bot_id).stat().st_ino, (roots[1] / bot_id).stat().st_ino}
    with Exchanger(directory, elsewhere, NODE_UID) as exchanger:
        for _ in range(TIMES):
            service.create_container(bot_id, ContainerConfig(command=FOREVER))
            service.start_container(bot_id)
            container = bots.engine.containers.get(f"botmaker-{bot_id}")
            # On a busy machine the engine has lost the output of a command.
            shown = wait_until(lambda container=container: inodes(container), "stat prints")
            assert expected == shown
            service.remove_container(bot_id, 0)
    assert exchanger.done == 0
    assert exchanger.tried > 50


@pytest.mark.parametrize("which", ["secrets", "state"])
def test_a_root_in_which_a_directory_is_exchanged_by_others_is_never_mounted_from(
    service: DockerService, bots: Bots, roots: tuple[Path, Path], elsewhere: Path, which: str
) -> None:
    bot_id = bots.new_openclaw()
    root = roots[which == "state"]
    (root / bot_id).mkdir(exist_ok=True)
    os.chown(root / bot_id, NODE_UID, NODE_UID)
    root.chmod(0o1777)
    error = SecretsUnavailableError if which == "secrets" else StateUnavailableError
    with Exchanger(root / bot_id, elsewhere, NODE_UID) as exchanger:
        for _ in range(TIMES):
            with pytest.raises(error, match="is writable by others"):
                service.create_container(bot_id, ContainerConfig(command=FOREVER))
    assert exchanger.done > 0, "it could be exchanged"
    assert [] == bots.containers()


@pytest.mark.parametrize("which", ["secrets", "state"])
def test_a_container_is_not_started_once_others_can_write_in_a_root_of_its(
    service: DockerService, bots: Bots, roots: tuple[Path, Path], which: str
) -> None:
    bot_id = bots.new_openclaw()
    service.create_container(bot_id, ContainerConfig(command=FOREVER))
    roots[which == "state"].chmod(0o777)
    error = SecretsUnavailableError if which == "secrets" else StateUnavailableError
    for start in (service.start_container, service.restart_container):
        with pytest.raises(error, match="is writable by others"):
            start(bot_id)
    assert "created" == bots.inspect(bot_id)["State"]["Status"]
    service.remove_container(bot_id, 0)


@pytest.mark.parametrize("which", ["secrets", "state"])
def test_a_state_or_secrets_directory_that_became_a_link_keeps_the_container_from_starting(
    service: DockerService, bots: Bots, roots: tuple[Path, Path], elsewhere: Path, which: str
) -> None:
    bot_id = bots.new_openclaw()
    service.create_container(bot_id, ContainerConfig(command=FOREVER))
    directory = roots[which == "state"] / bot_id
    directory.rename(directory.with_suffix(".away"))
    directory.symlink_to(elsewhere)
    error = SecretsUnavailableError if which == "secrets" else StateUnavailableError
    with pytest.raises(error, match="symbolic link"):
        service.start_container(bot_id)
    directory.unlink()
    directory.with_suffix(".away").rename(directory)
    service.start_container(bot_id)
    service.remove_container(bot_id, 0)
