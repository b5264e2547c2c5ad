"""Conformance 10: pulls from a real registry, and every way in which they fail."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from container_manager.backends.docker.container_images import ContainerImages
from container_manager.backends.docker.docker_service import DockerService
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import (
    ContainerManagerError,
    ImageNotAllowedError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
)
from container_manager.model import ContainerConfig, PullPolicy
from container_manager.operation import carry_out
from tests.support.bots import Bots
from tests.support.calls import FOREVER
from tests.support.fake_engine import FakeEngine, Stream, error
from tests.support.registry import Registry

Create = Callable[..., str]


@pytest.fixture
def create(bots: Bots, service_config: BackendConfig) -> Iterator[Create]:
    """Creates a bot from an image under a pull policy; its id."""
    services = []

    def call(image: str, policy: PullPolicy = PullPolicy.MISSING, allowed: tuple[str, ...] = ()) -> str:
        service = DockerService(replace(service_config, pull_policy=policy, allowed_images=allowed))
        services.append(service)
        bot_id = bots.new()
        service.create_container(bot_id, ContainerConfig(image=image, command=FOREVER))
        return bot_id

    yield call
    for service in services:
        service.close()


@pytest.fixture
def push(registry: Registry, engine_url: str) -> Callable[[str], str]:
    """Pushes an image to the registry, always under the same reference; returns the reference."""
    return lambda image: registry.push(engine_url, image, "bots/pulled:1")


@pytest.fixture
def pushed(push: Callable[[str], str], engine: docker.DockerClient, test_image: str) -> Iterator[str]:
    """An image that the registry has and the engine does not."""
    reference = push(test_image)
    yield reference
    with suppress(ImageNotFound):
        engine.images.remove(reference, force=True)


def test_conformance_10_a_missing_image_is_pulled_from_a_real_registry(create: Create, bots: Bots, pushed: str) -> None:
    bot_id = create(pushed)
    assert pushed == bots.inspect(bot_id)["Config"]["Image"]


def test_conformance_10_an_image_that_its_registry_does_not_have_is_not_found(
    create: Create, bots: Bots, registry: Registry
) -> None:
    with pytest.raises(ImageNotFoundError, match="manifest unknown") as caught:
        create(f"{registry.address}/bots/none:1")
    assert f"{registry.address}/bots/none:1" == caught.value.metadata["image"]
    assert bots.containers() == []


def test_conformance_10_a_registry_that_is_down_is_unavailable(create: Create, bots: Bots) -> None:
    with Registry() as registry:
        address = registry.address
    with pytest.raises(ImageRegistryUnavailableError, match="connection refused"):
        create(f"{address}/bots/any:1")
    assert bots.containers() == []


def test_conformance_10_a_registry_that_wants_a_login_denies(create: Create, bots: Bots) -> None:
    with Registry(password=True) as registry, pytest.raises(ImagePullDeniedError):
        create(f"{registry.address}/bots/any:1")
    assert bots.containers() == []


def test_conformance_10_an_error_inside_a_200_stream_is_pull_failed_with_its_text(tmp_path: Path) -> None:
    with pytest.raises(ImagePullFailedError, match="filesystem layer verification failed"):
        create_on_fake(tmp_path, [{"status": "Pulling"}, {"error": "filesystem layer verification failed for digest"}])


def test_conformance_10_a_stream_that_ends_without_the_image_is_pull_failed(tmp_path: Path) -> None:
    with pytest.raises(ImagePullFailedError, match="after its pull"):
        create_on_fake(tmp_path, [{"status": "Pulling"}])


def test_the_policy_never_does_not_ask_a_registry(create: Create, registry: Registry, pushed: str) -> None:
    with pytest.raises(ImageNotFoundError, match="pull policy is never"):
        create(pushed, PullPolicy.NEVER)


def test_the_policy_always_pulls_what_the_engine_has(
    create: Create, bots: Bots, pushed: str, push: Callable[[str], str], volume_image: str
) -> None:
    first = create(pushed)
    assert pushed == push(volume_image)
    # After that push the engine no longer has the tag.
    second = create(pushed, PullPolicy.MISSING)
    third = create(pushed, PullPolicy.ALWAYS)
    ids = [bots.inspect(bot_id)["Image"] for bot_id in (first, second, third)]
    assert ids[0] != ids[1]
    assert ids[1] == ids[2]


def test_the_policy_always_fails_without_a_registry_although_the_engine_has_the_image(
    create: Create, bots: Bots, engine: docker.DockerClient, test_image: str
) -> None:
    with Registry() as registry:
        gone = f"{registry.address}/bots/here:1"
    engine.images.get(test_image).tag(gone)
    try:
        with pytest.raises(ImageRegistryUnavailableError):
            create(gone, PullPolicy.ALWAYS)
        assert gone == bots.inspect(create(gone))["Config"]["Image"]
    finally:
        bots.remove_all()
        engine.images.remove(gone)


def test_an_image_id_is_used_and_never_pulled(
    create: Create, bots: Bots, engine: docker.DockerClient, test_image: str
) -> None:
    image_id = engine.images.get(test_image).id
    assert image_id == bots.inspect(create(image_id, PullPolicy.ALWAYS))["Image"]
    with pytest.raises(ImageNotFoundError):
        create("sha256:" + "0" * 64)


@pytest.mark.parametrize("moves", ["never", "before", "between the look and the create", "before an earlier attempt"])
def test_a_container_is_of_the_image_that_an_upgrade_has_pinned_whatever_its_name_names_by_now(  # noqa: PLR0917
    bots: Bots,
    service_config: BackendConfig,
    engine: docker.DockerClient,
    test_image: str,
    volume_image: str,
    monkeypatch: pytest.MonkeyPatch,
    moves: str,
) -> None:
    """It is shown by the name only if that names its image."""
    name = f"bots/{uuid.uuid4().hex}:1"
    image = engine.images.get(test_image)
    engine.images.get(test_image if moves == "never" else volume_image).tag(name)
    bot_id, config = bots.new(), ContainerConfig(image=name, command=FOREVER)
    lifecycle = DockerLifecycle(service_config)
    try:
        if moves == "before an earlier attempt":
            carry_out(lifecycle.create_container(bot_id, config, request_id="r"))
        if moves == "between the look and the create":
            monkeypatch.setattr(ContainerImages, "pinned", lambda *_: name)
        made = carry_out(lifecycle.create_container(bot_id, config, request_id="r", image_id=image.id))
        found = bots.inspect(bot_id)
        assert (made.container_id, image.id) == (found["Id"], found["Image"])
        assert (name if moves == "never" else image.id) == found["Config"]["Image"]
    finally:
        lifecycle.close()
        bots.remove_all()
        engine.images.remove(name)


def test_only_allowed_images_are_taken_and_the_default_always(create: Create, bots: Bots, test_image: str) -> None:
    with pytest.raises(ImageNotAllowedError, match="allowed"):
        create("docker.io/evil/image:1", allowed=("ghcr.io/openclaw/*",))
    create("", allowed=("ghcr.io/openclaw/*",))
    assert len(bots.containers()) == 1


@pytest.mark.parametrize("image", ["-v /:/host", "image/UPPER", "a b", "image:tag:tag", "https://host/image"])
def test_a_malformed_reference_is_refused_before_the_engine_sees_it(create: Create, bots: Bots, image: str) -> None:
    with pytest.raises(ContainerManagerError) as caught:
        create(image)
    assert ("INVALID_ARGUMENT", "INVALID_IMAGE_REFERENCE") == (caught.value.code, caught.value.reason)
    assert bots.containers() == []


def create_on_fake(secrets: Path, messages: list[dict[str, str]]) -> None:
    """Create a bot on an engine that lacks the image and answers the pull with 200 and these messages."""
    bot_id = str(uuid.uuid4())
    (secrets / bot_id).mkdir()
    with FakeEngine() as engine:
        engine.on("POST", "/containers/create", error(404, "No such image: bots/any:1"))
        engine.on("POST", "/images/create", Stream(messages))
        root = RootDirectory(secrets, secrets)
        service = DockerService(BackendConfig(secrets_root=root, docker_host=engine.url))
        try:
            service.create_container(bot_id, ContainerConfig(image="bots/any:1"))
        finally:
            service.close()
