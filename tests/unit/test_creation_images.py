# ruff: noqa: PLR0917 - fixtures and parameters
"""The image of a create: which images are allowed, and when they are pulled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.errors import EngineUnavailableError, ImageNotFoundError, ImagePullFailedError
from container_manager.model import ContainerConfig, PullPolicy
from tests.support.fake_engine import FakeEngine, Json, Stream
from tests.unit.creating import CREATE, MADE, MISSING_IMAGE, PULL, let_create_succeed, refused
from tests.unit.documents import BOT, ID, IMAGE_ID


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """An engine on which a create succeeds, unless a test overrides an answer."""
    return let_create_succeed(engine)


@pytest.mark.parametrize(
    ("policy", "first", "creates", "pulls"),
    [
        (PullPolicy.MISSING, MADE, 1, 0),
        (PullPolicy.MISSING, MISSING_IMAGE, 2, 1),
        (PullPolicy.ALWAYS, MADE, 1, 1),
        (PullPolicy.NEVER, MADE, 1, 0),
    ],
)
def test_an_image_is_pulled_as_the_policy_says(
    engine: FakeEngine,
    make_service: Callable[..., DockerService],
    policy: PullPolicy,
    first: Json,
    creates: int,
    pulls: int,
) -> None:
    engine.on(*CREATE, first, MADE)
    assert ID == make_service(pull_policy=policy).create_container(BOT)
    assert (creates, pulls) == (len(engine.seen(*CREATE)), len(engine.seen(*PULL)))


@pytest.mark.parametrize("policy", [PullPolicy.NEVER, PullPolicy.ALWAYS])
def test_a_missing_image_that_is_not_pulled_again_is_not_found(
    engine: FakeEngine, make_service: Callable[..., DockerService], policy: PullPolicy
) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    failure = refused(make_service(pull_policy=policy), ImageNotFoundError)
    assert f"the pull policy is {policy.value}" in str(failure)


@pytest.mark.parametrize("policy", PullPolicy)
def test_an_image_id_is_never_pulled(
    engine: FakeEngine, make_service: Callable[..., DockerService], policy: PullPolicy
) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    refused(make_service(pull_policy=policy), ImageNotFoundError, config=ContainerConfig(image=IMAGE_ID))
    assert [] == engine.seen(*PULL)


def test_a_pull_that_ends_well_without_the_image_has_failed(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    refused(service, ImagePullFailedError)
    assert (2, 1) == (len(engine.seen(*CREATE)), len(engine.seen(*PULL)))


def test_a_pull_that_is_cut_makes_nothing(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    engine.on(*PULL, Stream([{"status": "Pulling"}], cut=True))
    with pytest.raises((ImagePullFailedError, EngineUnavailableError)):
        service.create_container(BOT)
    assert 1 == len(engine.seen(*PULL))


def test_the_default_image_is_always_allowed(engine: FakeEngine, make_service: Callable[..., DockerService]) -> None:
    service = make_service(allowed_images=("good/*",), default_image="mine:1")
    service.create_container(BOT)
    assert ["mine:1"] == [request.body["Image"] for request in engine.seen(*CREATE)]
