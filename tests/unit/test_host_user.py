"""Which user of this host bots are: the remapped one, on an engine that remaps users."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.docker.backend import DockerBackend
from container_manager.backends.docker.host_user import HostUser
from container_manager.bot_directories import BotUser
from container_manager.config import BackendConfig
from container_manager.engine.client import EngineClient
from container_manager.engine.user_namespace import UserNamespace
from container_manager.errors import EngineUnavailableError
from container_manager.provisioning.host_files import HostFiles
from container_manager.provisioning.host_secrets import HostSecrets
from tests.support.fake_engine import Cut, FakeEngine, Json, error
from tests.unit.provisioned import BOT, entries, root_at

BOTS = BotUser(1000, 1000)
REMAPS = {"SecurityOptions": ["name=userns"], "DockerRootDir": "/var/lib/docker/100000.200000"}


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ((1000, 1000), (101_000, 201_000)),
        ((0, 0), (100_000, 200_000)),
        ((101_000, 201_000), (101_000, 201_000)),
        ((101_000, 1000), (101_000, 201_000)),
    ],
)
def test_the_base_is_added_unless_the_number_is_one_of_the_host(
    user: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert expected == UserNamespace(100_000, 200_000).on_host(BotUser(*user))


# A read is repeated once.
@pytest.mark.parametrize("away", [[Cut(), Cut()], [error(401, "no")], [error(502, "bad gateway")]])
def test_the_last_answer_holds_while_the_engine_is_away(
    engine: FakeEngine, client: EngineClient, away: list[Any]
) -> None:
    host_user = HostUser(client)
    engine.on("GET", "/info", Json(REMAPS), *away, Json({}))
    assert [(101_000, 201_000), (101_000, 201_000)] == [host_user(BOTS), host_user(BOTS)]
    client._info = None
    assert (101_000, 201_000) == host_user(BOTS), "the engine is away"
    assert BOTS == host_user(BOTS), "another engine has taken its place"


def test_an_engine_that_gives_no_information_has_the_users_of_the_host(
    engine: FakeEngine, client: EngineClient
) -> None:
    engine.on("GET", "/info", error(404, "no"))
    assert BOTS == HostUser(client)(BOTS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_is_written_before_the_engine_has_said_whether_it_remaps_users(
    engine: FakeEngine, client: EngineClient, tmp_path: Path
) -> None:
    root, host_user = root_at(tmp_path / "root"), HostUser(client)
    secrets, files = HostSecrets(root, BOTS, host_user), HostFiles(root, BOTS, host_user)
    engine.on("GET", "/info", *[Cut()] * 4, Json(REMAPS))
    for put in (lambda: secrets.put_secrets(BOT, {"A": b"1"}), lambda: files.put_files(BOT, {"A": b"1"})):
        with pytest.raises(EngineUnavailableError):
            put()
    assert [] == entries(root.path)
    files.put_files(BOT, {"a/b": b"1"})
    secrets.put_secrets(BOT, {"A": b"1"})
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in root.path.rglob("*")}
    assert {(101_000, 201_000)} == owners


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_engine_that_comes_back_and_remaps_otherwise_is_asked_again(engine: FakeEngine, tmp_path: Path) -> None:
    root = root_at(tmp_path / "root")
    backend = DockerBackend(BackendConfig(secrets_root=root, docker_host=engine.url))
    owners = []
    for answer in (REMAPS, {}):
        engine.on("GET", "/info", Json(answer))
        backend.secrets.put_secrets(BOT, {"A": b"1"})
        owners.append((root.path / BOT / "A").stat().st_uid)
        # As the health check sees it.
        engine.on("GET", "/_ping", Cut(), Cut())
        with pytest.raises(EngineUnavailableError):
            backend.lifecycle.ping()
    asyncio.run(backend.close())
    assert [101_000, 1000] == owners
