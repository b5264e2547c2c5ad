"""Whether a container's own user can use its bot's directories, where the engine remaps users."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.docker.start_directories import check_usable
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.errors import SecretsUnavailableError, StateUnavailableError
from tests.support.fake_engine import FakeEngine, Json, error
from tests.unit.documents import BOT, archived, inspected

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

BASE = 100_000
HARDENED = {"CapDrop": ["ALL"], "CapAdd": None, "UsernsMode": ""}
PASSWD = b"root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\ncut:x:10"


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[EngineClient]:
    engine.on(
        "GET", "/info", Json({"SecurityOptions": ["name=userns"], "DockerRootDir": f"/var/lib/docker/{BASE}.{BASE}"})
    )
    engine.on("GET", "/containers/*/archive", archived(PASSWD, 0o644, 0))
    client = EngineClient(engine.url, timeout_seconds=5)
    yield client
    client.close()


@pytest.fixture
def config(engine: FakeEngine, tmp_path: Path) -> BackendConfig:
    """A bot's secrets and state, which are root's in its container."""
    roots = [RootDirectory(tmp_path / name, tmp_path / name) for name in ("secrets", "state")]
    for root in roots:
        (root.path / BOT).mkdir(mode=0o700, parents=True)
        os.chown(root.path / BOT, BASE, BASE)
    return BackendConfig(secrets_root=roots[0], state_root=roots[1], docker_host=engine.url)


def container(user: str, **host: Any) -> dict[str, Any]:
    return inspected(config={"User": user}, HostConfig={**HARDENED, **host})


@pytest.mark.parametrize(("user", "uid"), [("1000", 1000), ("500:0", 500), ("node", 1000), ("node:root", 1000)])
def test_what_the_containers_own_user_certainly_cannot_read_or_write_is_refused_with_that_users_number_on_the_host(
    client: EngineClient, config: BackendConfig, user: str, uid: int
) -> None:
    owner = f"gives user {uid} of a bot's container no right to use it; give it to {BASE + uid}:{BASE + 1000}"
    (config.secrets_root.path / BOT / "TOKEN").touch()
    with pytest.raises(SecretsUnavailableError, match=owner):
        check_usable(client, config, BOT, container(user), Deadline())
    os.chown(config.secrets_root.path / BOT / "TOKEN", BASE + uid, BASE)
    os.chown(config.secrets_root.path / BOT, BASE + uid, BASE)
    with pytest.raises(StateUnavailableError, match=owner):
        check_usable(client, config, BOT, container(user), Deadline())


@pytest.mark.parametrize(
    "document",
    [
        None,
        container(""),
        container("0:5"),
        container("root"),
        # The user's number is not known.
        container("nobody"),
        container("cut"),
        # A container that somebody else made: root may read anything, or users are the host's.
        container("1000", CapDrop=None),
        container("1000", CapAdd=["DAC_OVERRIDE"]),
        container("1000", Privileged=True),
        container("1000", UsernsMode="host"),
    ],
)
def test_what_the_containers_user_can_use_or_may_use_is_accepted(
    client: EngineClient, config: BackendConfig, document: dict[str, Any] | None
) -> None:
    check_usable(client, config, BOT, document, Deadline())


def test_a_user_whose_number_the_engine_does_not_tell_may_be_any(
    engine: FakeEngine, client: EngineClient, config: BackendConfig
) -> None:
    engine.on("GET", "/containers/*/archive", error(500, "no"))
    check_usable(client, config, BOT, container("node"), Deadline())


def test_an_empty_secrets_directory_that_the_user_cannot_enter_is_accepted(
    client: EngineClient, config: BackendConfig
) -> None:
    assert config.state_root is not None
    os.chown(config.state_root.path / BOT, BASE + 1000, BASE)
    check_usable(client, config, BOT, container("1000"), Deadline())
    (config.secrets_root.path / BOT / ".TOKEN").touch()
    with pytest.raises(SecretsUnavailableError, match="the secrets directory"):
        check_usable(client, config, BOT, container("1000"), Deadline())


@pytest.mark.parametrize("owner", [1000, 2000], ids=["of --bot-user", "of somebody else"])
def test_a_refusal_of_what_the_service_makes_names_the_option_that_it_follows(
    client: EngineClient, config: BackendConfig, owner: int
) -> None:
    """As of a state directory that it has made for this create, and takes away again."""
    assert config.state_root is not None
    os.chown(config.state_root.path / BOT, BASE + owner, BASE)
    with pytest.raises(StateUnavailableError) as caught:
        check_usable(client, config, BOT, container("0"), Deadline())
    assert (owner == 1000) is ("for --bot-user, which must be the image's user" in str(caught.value))


def test_a_directory_or_secret_with_an_access_control_list_is_accepted(
    client: EngineClient, config: BackendConfig
) -> None:
    assert config.state_root is not None
    secret = config.secrets_root.path / BOT / "TOKEN"
    secret.touch(mode=0o600)
    # user::rwx, user:101000:rwx, group::---, mask::rwx, other::--- (Linux, include/uapi/linux/posix_acl_xattr.h)
    entries = [(1, 7, -1), (2, 7, BASE + 1000), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    for path in (config.state_root.path / BOT, secret.parent):
        os.chown(path, 0, 0)
        os.setxattr(path, "system.posix_acl_access", access)
    with pytest.raises(SecretsUnavailableError, match="TOKEN"):
        check_usable(client, config, BOT, container("1000"), Deadline())
    os.setxattr(secret, "system.posix_acl_access", access)
    check_usable(client, config, BOT, container("1000"), Deadline())
