"""An engine that remaps users: a bot can use its directories, or its create says whom to give them to."""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from container_manager.backends.docker.backend import DockerBackend
from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import BotUser, RootDirectory
from container_manager.config import BackendConfig
from container_manager.doctor import Finding, Verdict
from container_manager.doctor.engine_checks import check_engine
from container_manager.errors import SecretsUnavailableError, StateUnavailableError
from container_manager.model import ContainerConfig
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.waiting import wait_until

BASE = BotUser(231072, 331072)
BOT_USER = BotUser(BASE.uid + 1000, BASE.gid + 1000)
OWNER = "232072:332072"
IMAGE = "botmaker-test/of-user-1000:1"
# Read the secret, and write it into the state.
COPY = ("sh", "-c", "cat /run/secrets/TOKEN >/home/node/.openclaw/copy; echo $?; exec sleep 100000")


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A directory that the remapped root may enter, as the engine requires it of its data."""
    with tempfile.TemporaryDirectory(prefix="cm-users-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def remapping_engine(directory: Path) -> Iterator[PrivateEngine]:
    """An engine with ``userns-remap``, with ranges of ids of its own instead of those in the machine's files."""
    mounts = []
    for kind, base in (("subuid", BASE.uid), ("subgid", BASE.gid)):
        (directory / kind).write_text(f"daemon:{base}:65536\n", encoding="ascii")
        mounts.append(f"mount --bind {shlex.quote(str(directory / kind))} /etc/{kind}")
    program = directory / "dockerd"
    inner = f'{" && ".join(mounts)} && exec dockerd "$@"'
    program.write_text(f'#!/bin/sh\nexec unshare -m sh -c {shlex.quote(inner)} dockerd "$@"\n', encoding="ascii")
    program.chmod(0o755)
    with PrivateEngine(
        directory / "engine", dockerd=str(program), settings={"userns-remap": "daemon:daemon"}
    ) as engine:
        client = docker.DockerClient(base_url=engine.url)
        lines = f"FROM {ensure_test_image(engine.url)}\nUSER 1000:1000\n"
        client.images.build(fileobj=io.BytesIO(lines.encode()), tag=IMAGE)
        client.close()
        yield engine
        runtime = Path(engine.url.removeprefix("unix://")).parent
    assert [] == list(runtime.parent.glob(f"{runtime.name}*"))


@pytest.fixture
def config(remapping_engine: PrivateEngine, directory: Path) -> BackendConfig:
    """With roots of this test, which nobody else may enter."""
    roots = Path(tempfile.mkdtemp(dir=directory))
    for name in ("secrets", "state"):
        (roots / name).mkdir(mode=0o711)
    return BackendConfig(
        secrets_root=RootDirectory(roots / "secrets", roots / "secrets"),
        state_root=RootDirectory(roots / "state", roots / "state"),
        docker_host=remapping_engine.url,
        default_image=IMAGE,
        bot_user=BOT_USER,
    )


@pytest.fixture
def client(config: BackendConfig) -> Iterator[docker.DockerClient]:
    """The engine as the test itself talks to it; in the end it has no container."""
    client = docker.DockerClient(base_url=config.docker_host)
    yield client
    for container in client.containers.list(all=True):
        container.remove(force=True)
    client.close()


Serve = Callable[[BackendConfig], DockerService]


@pytest.fixture
def serve(client: docker.DockerClient) -> Iterator[Serve]:
    services = []

    def call(config: BackendConfig) -> DockerService:
        services.append(DockerService(config))
        return services[-1]

    yield call
    for service in services:
        service.close()


def give(config: BackendConfig, directory: BotUser, file: BotUser | None = None) -> str:
    """Make a bot's secrets with these owners; its id."""
    bot_id = str(uuid.uuid4())
    path = config.secrets_root.path / bot_id
    path.mkdir(mode=0o700)
    (path / "TOKEN").write_text("the secret", encoding="ascii")
    (path / "TOKEN").chmod(0o600)
    os.chown(path / "TOKEN", *(file or directory))
    os.chown(path, *directory)
    return bot_id


def owner(path: Path) -> tuple[int, int]:
    """Owner and group."""
    return path.stat().st_uid, path.stat().st_gid


def users(config: BackendConfig) -> Finding:
    """The doctor's finding about users."""
    [finding] = [each for each in asyncio.run(check_engine(config)).findings if each.name == "users"]
    return finding


def test_a_bot_whose_files_belong_to_its_remapped_user_uses_them(
    serve: Serve, config: BackendConfig, client: docker.DockerClient
) -> None:
    service, bot_id = serve(config), give(config, BOT_USER)
    service.create_container(bot_id, ContainerConfig(command=COPY))
    service.start_container(bot_id)
    container = client.containers.get(f"botmaker-{bot_id}")
    assert b"0\n" == wait_until(container.logs, "the bot has copied its secret")
    assert config.state_root is not None
    copy = config.state_root.path / bot_id / "copy"
    assert "the secret" == copy.read_text()
    assert BOT_USER == (copy.stat().st_uid, copy.stat().st_gid)
    assert Verdict.OK is users(config).verdict


@pytest.mark.parametrize(
    ("owners", "named"),
    [
        ((BotUser(1000, 1000), BotUser(1000, 1000)), "the secrets directory"),
        ((BotUser(0, 0), BotUser(0, 0)), "the secrets directory"),
        ((BotUser(BASE.uid - 1, BASE.gid - 1), BOT_USER), "the secrets directory"),
        ((BOT_USER, BotUser(1000, 1000)), "TOKEN"),
    ],
    ids=str,
)
def test_secrets_that_no_user_of_the_bot_can_read_are_refused_with_the_owner_that_they_need(
    serve: Serve,
    config: BackendConfig,
    client: docker.DockerClient,
    owners: tuple[BotUser, BotUser],
    named: str,
) -> None:
    bot_id = give(config, *owners)
    with pytest.raises(SecretsUnavailableError, match=f"{named}.* give it to {OWNER}") as caught:
        serve(config).create_container(bot_id, ContainerConfig(command=COPY))
    assert {"bot_id": bot_id} == caught.value.metadata
    assert [] == client.containers.list(all=True)
    assert config.state_root is not None
    assert [] == list(config.state_root.path.iterdir())
    finding = users(config)
    assert (Verdict.FAILED, True) == (finding.verdict, bot_id in finding.detail)
    assert OWNER in finding.remedy


@pytest.mark.parametrize("owner", [BASE, BOT_USER], ids=["root's", "the bot user's"])
@pytest.mark.parametrize("user", ["root", "1000", "node"])
def test_secrets_are_refused_exactly_where_the_bots_own_user_cannot_read_them(
    serve: Serve, config: BackendConfig, client: docker.DockerClient, user: str, owner: BotUser
) -> None:
    uid = 0 if user == "root" else 1000
    lines = f"FROM {ensure_test_image(config.docker_host)}\nUSER {user}\n"
    image, _ = client.images.build(fileobj=io.BytesIO(lines.encode()), rm=True)
    config = replace(config, default_image=f"{IMAGE}-{user}", bot_user=BotUser(uid, uid))
    assert image.tag(config.default_image)
    bot_id, other = give(config, owner), BOT_USER if owner == BASE else BASE
    mount = docker.types.Mount("/secrets", str(config.secrets_root.path / bot_id), type="bind", read_only=True)
    reader = client.containers.run(
        config.default_image, ["cat", "/secrets/TOKEN"], detach=True, cap_drop=["ALL"], mounts=[mount]
    )
    can_read = reader.wait()["StatusCode"] == 0
    reader.remove()
    assert can_read is (owner.uid == BASE.uid + uid)
    service = serve(config)
    refusal = f"gives user {uid} of a bot's container no right to use it; give it to {BASE.uid + uid}:{BASE.gid + uid}"
    if can_read:
        service.create_container(bot_id, ContainerConfig(command=("sleep", "100000")))
        os.chown(config.secrets_root.path / bot_id / "TOKEN", *other)
        with pytest.raises(SecretsUnavailableError, match=f"TOKEN.*{refusal}"):
            service.start_container(bot_id)
        os.chown(config.secrets_root.path / bot_id / "TOKEN", *owner)
        service.start_container(bot_id)
        assert Verdict.OK is users(config).verdict
    else:
        with pytest.raises(SecretsUnavailableError, match=f"the secrets directory.*{refusal}"):
            service.create_container(bot_id, ContainerConfig(command=("sleep", "100000")))
        assert [] == client.containers.list(all=True)
        assert config.state_root is not None
        assert [] == list(config.state_root.path.iterdir())
        assert (Verdict.WARNING, True) == (users(config).verdict, bot_id in users(config).detail)


def test_a_state_directory_of_the_containers_root_is_refused_for_another_user(
    serve: Serve, config: BackendConfig, client: docker.DockerClient
) -> None:
    bot_id = give(config, BOT_USER)
    assert config.state_root is not None
    state = config.state_root.path / bot_id
    state.mkdir(mode=0o700)
    os.chown(state, *BASE)
    with pytest.raises(StateUnavailableError, match=f"gives user 1000 .* give it to {OWNER}"):
        serve(config).create_container(bot_id, ContainerConfig(command=COPY))
    assert [] == client.containers.list(all=True)
    assert state.is_dir()


def test_files_that_everybody_may_read_are_accepted(serve: Serve, config: BackendConfig) -> None:
    bot_id = give(config, BotUser(0, 0))
    (config.secrets_root.path / bot_id).chmod(0o711)
    (config.secrets_root.path / bot_id / "TOKEN").chmod(0o644)
    serve(config).create_container(bot_id, ContainerConfig(command=COPY))


def test_what_is_put_belongs_to_the_remapped_user_and_the_bot_uses_it(
    serve: Serve, config: BackendConfig, client: docker.DockerClient
) -> None:
    """With ``--bot-user`` as it is in the container, or as this host numbers it."""
    for user in (BotUser(1000, 1000), BOT_USER):
        config = replace(config, bot_user=user)
        backend, bot_id = DockerBackend(config), str(uuid.uuid4())
        backend.secrets.put_secrets(bot_id, {"TOKEN": b"the secret"})
        backend.files.put_files(bot_id, {"a/b": b"b"})
        asyncio.run(backend.close())
        service = serve(config)
        service.create_container(bot_id, ContainerConfig(command=COPY))
        service.start_container(bot_id)
        assert b"0\n" == wait_until(client.containers.get(f"botmaker-{bot_id}").logs, "the bot has copied its secret")
        assert config.state_root is not None
        made = [*(config.secrets_root.path / bot_id).rglob("*"), *(config.state_root.path / bot_id).rglob("*")]
        assert {"TOKEN", "a", "b", "copy"} == {path.name for path in made}
        made += [root.path / bot_id for root in (config.secrets_root, config.state_root)]
        assert {BOT_USER} == {owner(path) for path in made}


def test_a_state_directory_that_the_bot_cannot_write_is_refused(serve: Serve, config: BackendConfig) -> None:
    bot_id = give(config, BOT_USER)
    assert config.state_root is not None
    (config.state_root.path / bot_id).mkdir(mode=0o700)
    (config.state_root.path / bot_id / "memory").touch()
    with pytest.raises(StateUnavailableError, match=f"give it to {OWNER}"):
        serve(config).create_container(bot_id, ContainerConfig(command=COPY))


def test_a_start_is_refused_once_the_secrets_are_no_longer_readable(serve: Serve, config: BackendConfig) -> None:
    service, bot_id = serve(config), give(config, BOT_USER)
    service.create_container(bot_id, ContainerConfig(command=("sleep", "100000")))
    os.chown(config.secrets_root.path / bot_id, 1000, 1000)
    for verb in (service.start_container, service.restart_container):
        with pytest.raises(SecretsUnavailableError, match=f"give it to {OWNER}"):
            verb(bot_id)
    os.chown(config.secrets_root.path / bot_id, *BOT_USER)
    service.start_container(bot_id)
