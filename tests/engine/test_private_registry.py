"""Pulls from a real registry with a password, and services whose user has an odd Docker configuration."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.config import BackendConfig, RegistryConfig
from container_manager.errors import ImagePullDeniedError, ImagePullFailedError
from container_manager.model import ContainerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.serving import server_process
from tests.support.waiting import wait_until

Pull = Callable[[], str]


@pytest.fixture(scope="module")
def locked_registry() -> Iterator[Registry]:
    """A real registry that requires USER and PASSWORD."""
    with Registry(password=True) as registry:
        yield registry


@pytest.fixture
def pushed(locked_registry: Registry, engine_url: str, engine: docker.DockerClient, test_image: str) -> Iterator[str]:
    """An image that this registry has and the engine does not."""
    reference = locked_registry.push(engine_url, test_image, "bots/private:1")
    yield reference
    with suppress(ImageNotFound):
        engine.images.remove(reference, force=True)


@pytest.fixture
def config(tmp_path: Path) -> RegistryConfig:
    return RegistryConfig(tmp_path / "registries.json")


def write(config: RegistryConfig, content: object) -> None:
    config.path.write_text(json.dumps(content), encoding="utf-8")
    config.path.chmod(0o600)


def entry(password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}


@pytest.fixture
def pull(bots: Bots, service_config: BackendConfig, config: RegistryConfig, pushed: str) -> Iterator[Pull]:
    """Creates a bot from the image, with the credentials of the file; its id."""
    service = DockerService(replace(service_config, registry_config=config))

    def call() -> str:
        bot_id = bots.new()
        service.create_container(bot_id, ContainerConfig(image=pushed, command=FOREVER))
        return bot_id

    yield call
    service.close()


def test_an_image_of_a_registry_with_a_password_is_pulled_with_the_files_credentials(
    pull: Pull, config: RegistryConfig, locked_registry: Registry, bots: Bots, pushed: str
) -> None:
    write(config, {"auths": {locked_registry.address: entry(), "other.test": {"auth": ""}}, "HttpHeaders": None})
    assert pushed == bots.inspect(pull())["Config"]["Image"]


def test_the_file_is_read_at_each_pull_and_a_denial_names_it(
    pull: Pull, config: RegistryConfig, locked_registry: Registry
) -> None:
    address = locked_registry.address
    write(config, {"auths": {}})
    with pytest.raises(ImagePullDeniedError, match=rf"registries\.json has no credentials for {address}"):
        pull()
    write(config, {"auths": {address: entry("wrong-pass-word")}})
    with pytest.raises(ImagePullDeniedError, match=rf"with the credentials for {address} in .*registries\.json") as got:
        pull()
    assert "wrong-pass-word" not in str(got.value)
    write(config, {"auths": {address: {"auth": "?"}}})
    with pytest.raises(ImagePullFailedError, match=rf"registries\.json for {address} has an auth"):
        pull()
    write(config, {"auths": {address: entry()}})
    pull()


def test_a_credential_helper_gives_the_password(
    pull: Pull, config: RegistryConfig, locked_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = config.path.with_name("docker-credential-tests")
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    program.write_text(f"#!/bin/sh\nread registry; [ $registry = {locked_registry.address} ] && echo '{answer}'\n")
    program.chmod(0o700)
    write(config, {"credHelpers": {locked_registry.address: "tests"}})
    with pytest.raises(ImagePullFailedError, match="docker-credential-tests, which is not in PATH"):
        pull()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    pull()


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "{",
        '{"auths": {"%s": null}}',
        '{"auths": {"%s": {"auth": ""}}}',
        '{"auths": {"%s": {"auth": "not base64"}}}',
        '{"credsStore": "not-there"}',
        '{"HttpHeaders": null, "proxies": null, "auths": {"%s": {"auth": null}}}',
    ],
)
def test_an_odd_docker_configuration_of_the_services_user_concerns_pulls_alone(
    content: str, bots: Bots, service_config: BackendConfig, session_dir: Path
) -> None:
    """Create, start, stop and health go on; a pull has an image's reason that names the file, as the doctor does."""
    directory = Path(tempfile.mkdtemp(prefix="o", dir=session_dir))
    (directory / ".docker").mkdir()
    with Registry() as registry:
        (directory / ".docker" / "config.json").write_text(content.replace("%s", registry.address))
        arguments = [
            *("--listen", f"unix://{directory}/s.sock", "--docker-host", service_config.docker_host),
            *("--secrets-root", str(service_config.secrets_root.path)),
            *("--default-image", service_config.default_image),
        ]
        environment = {"HOME": str(directory), "DOCKER_CONFIG": ""}
        with (
            server_process(arguments, directory / "log", **environment),
            connect(f"unix://{directory}/s.sock") as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            wait_until(
                lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1, "the service is healthy"
            )
            rpc, bot_id = Calls(ContainerManagerStub(channel)), bots.new()
            rpc.run(bot_id, *FOREVER)
            rpc.stop(bot_id, grace=0)
            rpc.remove(bot_id)
            with fails_with("FAILED_PRECONDITION", "IMAGE_PULL_FAILED") as caught:
                rpc.create(bot_id, *FOREVER, image=f"{registry.address}/bots/none:1")
        doctor = subprocess.run(
            [sys.executable, "-m", "container_manager", "doctor", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert f"{directory}/.docker/config.json" in caught[0].message
    [line] = [line for line in doctor.stdout.splitlines() if line.startswith("failed")]
    assert f"{directory}/.docker/config.json" in line
