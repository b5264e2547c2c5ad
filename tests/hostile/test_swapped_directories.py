"""A bot's secrets directory exchanged for a link while its container is made, and roots in which others could do so."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.config import DockerServiceConfig
from container_manager.docker_service import DockerService
from container_manager.errors import SecretsUnavailableError
from container_manager.model import ContainerConfig
from tests.support.bots import Bots
from tests.support.calls import FOREVER

CREATES = 40
CONFIG = ContainerConfig(command=FOREVER, network="none")


@pytest.fixture
def root(bots: Bots, tmp_path: Path) -> Path:
    """A root of the test's own, in which ``bots`` makes its directories."""
    bots.secrets_root = tmp_path / "root"
    bots.secrets_root.mkdir(mode=0o755)
    return bots.secrets_root


@pytest.fixture
def service(engine_url: str, root: Path, test_image: str) -> Iterator[DockerService]:
    """The service with that root."""
    config = DockerServiceConfig(RootDirectory(root, root), docker_host=engine_url, default_image=test_image)
    service = DockerService(config)
    yield service
    service.close()


def test_a_directory_that_is_swapped_during_creates_is_refused_or_mounted_by_its_own_name(
    service: DockerService, root: Path, bots: Bots, tmp_path: Path
) -> None:
    """By whoever may write in the root: nobody but root and the service's own user."""
    bot_id = bots.new()
    (tmp_path / "elsewhere").mkdir()
    refused = made = 0
    with _swapping(root / bot_id, tmp_path / "elsewhere"):
        while refused + made < CREATES or not (refused and made):
            try:
                container_id = service.create_container(bot_id, CONFIG)
            except SecretsUnavailableError:
                refused += 1
                assert [] == bots.containers()
                continue
            made += 1
            mounts = bots.inspect(bot_id)["HostConfig"]["Mounts"]
            assert [(str(root / bot_id), True)] == [(mount["Source"], mount["ReadOnly"]) for mount in mounts]
            bots.engine.api.remove_container(container_id)
            assert refused + made < 100 * CREATES


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_root_in_which_others_may_write_is_refused_and_nothing_is_made(
    service: DockerService, root: Path, bots: Bots, mode: int
) -> None:
    bot_id = bots.new()
    root.chmod(mode)
    with pytest.raises(SecretsUnavailableError, match="writable by others"):
        service.create_container(bot_id, CONFIG)
    assert [] == bots.containers()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_root_of_another_user_is_refused_and_nothing_is_made(service: DockerService, root: Path, bots: Bots) -> None:
    bot_id = bots.new()
    os.chown(root, 12_345, -1)
    with pytest.raises(SecretsUnavailableError, match="belongs to the user 12345"):
        service.create_container(bot_id, CONFIG)
    assert [] == bots.containers()


@contextmanager
def _swapping(directory: Path, elsewhere: Path) -> Iterator[None]:
    """The directory and a link to ``elsewhere`` take turns under one name, as fast as they can."""
    ended = threading.Event()
    aside, link = directory.with_suffix(".aside"), directory.with_suffix(".link")

    def swap() -> None:
        while not ended.is_set():
            link.symlink_to(elsewhere)
            directory.rename(aside)
            link.rename(directory)
            directory.unlink()
            aside.rename(directory)

    thread = threading.Thread(target=swap, name="swapping")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(FileNotFoundError):
            link.unlink()
