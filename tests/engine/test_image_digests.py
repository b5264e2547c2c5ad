"""What an engine says of images in registries, as the backend for a swarm asks for them, from a real registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from container_manager.backends.swarm.swarm_images import SwarmImages
from container_manager.config import BackendConfig, RegistryConfig
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.errors import (
    ContainerManagerError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
)
from container_manager.operation import carry_out
from tests.support.registry import PASSWORD, USER, Registry

Resolve = Callable[[str], str]


@pytest.fixture
def registries(tmp_path: Path) -> RegistryConfig:
    return RegistryConfig(tmp_path / "registries.json")


@pytest.fixture
def resolve(service_config: BackendConfig, engine_url: str, registries: RegistryConfig) -> Iterator[Resolve]:
    """An image with its digest."""
    engine = SwarmClient(engine_url, timeout_seconds=60)
    images = SwarmImages(engine, replace(service_config, registry_config=registries))
    yield lambda image: carry_out(images.resolve(image, Deadline(60)))
    engine.close()


def write(registries: RegistryConfig, address: str, password: str = "") -> None:
    auths = {address: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}} if password else {}
    registries.path.write_text(json.dumps({"auths": auths}), encoding="utf-8")
    registries.path.chmod(0o600)


def test_a_digest_or_the_registrys_refusal_with_its_own_reason_comes_with_the_files_credentials(
    resolve: Resolve, registries: RegistryConfig, engine_url: str, engine: docker.DockerClient, test_image: str
) -> None:
    with Registry(password=True) as registry:
        image, other = registry.push(engine_url, test_image, "bots/digest:1"), f"{registry.address}/bots/digest:2"
        before = {each.id for each in engine.images.list()}

        def refused(reference: str) -> tuple[type[ContainerManagerError], str]:
            with pytest.raises(ContainerManagerError) as caught:
                resolve(reference)
            assert PASSWORD not in str(caught.value)
            return type(caught.value), str(caught.value)

        write(registries, registry.address)
        kind, text = refused(image)
        assert ImagePullDeniedError is kind
        assert f"registries.json has no credentials for {registry.address}" in text
        assert "refuses this process" not in text
        write(registries, registry.address, "wrong")
        kind, text = refused(image)
        assert ImagePullDeniedError is kind
        assert f"with the credentials for {registry.address} in" in text
        write(registries, registry.address, PASSWORD)
        reference, _, digest = resolve(image).partition("@")
        assert (image, "sha256:") == (reference, digest[:7])
        assert ImageNotFoundError is refused(other)[0]
        registries.path.write_text("{", encoding="utf-8")
        assert ImagePullFailedError is refused(image)[0]
    write(registries, registry.address, PASSWORD)
    assert ImageRegistryUnavailableError is refused(image)[0]
    assert before == {each.id for each in engine.images.list()}, "nothing is pulled"
