"""Create: names that are in use, refusals before anything is created, and refusals of the engine."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.errors import (
    ContainerAlreadyExistsError,
    ContainerManagerError,
    ImageNotAllowedError,
    InvalidBotIdError,
    InvalidConfigError,
    InvalidImageReferenceError,
    NameInUseUnmanagedError,
    SecretsUnavailableError,
)
from container_manager.model import ContainerConfig
from tests.support.fake_engine import FakeEngine, Json, error
from tests.unit.creating import ABSENT, BY_NAME, CREATE, MADE, PULL, TAKEN, let_create_succeed, refused, removed
from tests.unit.documents import BOT, ID, LABELS, NAME, OTHER_BOT, OTHER_ID, inspected, state


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """An engine on which a create succeeds, unless a test overrides an answer."""
    return let_create_succeed(engine)


def test_a_create_is_one_create(engine: FakeEngine, service: DockerService) -> None:
    assert ID == service.create_container(BOT, ContainerConfig(image="botmaker/openclaw:1"), request_id="wish")
    (request,) = engine.seen(*CREATE)
    assert NAME == request.query["name"]
    labels = request.body["Labels"]
    uuid.UUID(labels.pop("botmaker.create-id"))
    assert {**LABELS, "botmaker.request-id": "wish"} == labels
    assert [] == removed(engine)
    assert [] == engine.seen(*PULL)


def test_every_create_has_an_id_of_its_own_also_a_retry_of_the_same_request(
    engine: FakeEngine, service: DockerService
) -> None:
    for _ in range(2):
        service.create_container(BOT, request_id="wish")
    first, second = (request.body["Labels"]["botmaker.create-id"] for request in engine.seen(*CREATE))
    assert first != second


@pytest.mark.parametrize(("grace_seconds", "stop_seconds"), [(10, 10), (6.5, 7), (0, 0), (0.1, 1), (90, 90)])
def test_stops_that_the_service_does_not_send_have_its_default_grace_in_whole_seconds(
    engine: FakeEngine, make_service: Callable[..., DockerService], grace_seconds: float, stop_seconds: int
) -> None:
    make_service(grace_seconds=grace_seconds).create_container(BOT)
    assert [stop_seconds] == [request.body["StopTimeout"] for request in engine.seen(*CREATE)]


@pytest.mark.parametrize(
    ("document", "request_id", "cls"),
    [
        (inspected(), "", ContainerAlreadyExistsError),
        (inspected(), "wish", ContainerAlreadyExistsError),
        (inspected(labels={**LABELS, "botmaker.request-id": "other"}), "wish", ContainerAlreadyExistsError),
        (inspected(labels={**LABELS, "botmaker.request-id": "wish"}), "", ContainerAlreadyExistsError),
        (inspected(labels=None), "wish", NameInUseUnmanagedError),
        (inspected(labels={"botmaker.managed": "true"}), "wish", NameInUseUnmanagedError),
        (inspected(labels={"botmaker.bot-id": BOT}), "wish", NameInUseUnmanagedError),
        (inspected(labels={**LABELS, "botmaker.bot-id": OTHER_BOT}), "wish", NameInUseUnmanagedError),
    ],
)
def test_a_name_that_is_held_is_left_alone(
    engine: FakeEngine, service: DockerService, document: Any, request_id: str, cls: type[ContainerManagerError]
) -> None:
    engine.on(*BY_NAME, Json(document))
    failure = refused(service, cls, request_id=request_id)
    assert {"bot_id": BOT, "container_id": ID} == failure.metadata
    assert [] == engine.seen("POST", "*") + removed(engine)  # type: ignore[operator]


def test_the_same_request_again_is_the_same_container(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_NAME, Json(inspected(labels={**LABELS, "botmaker.request-id": "wish"})))
    assert ID == service.create_container(BOT, request_id="wish")
    assert [] == engine.seen("POST", "*")


@pytest.mark.parametrize(
    ("labels", "request_id", "outcome"),
    [
        (LABELS, "wish", ContainerAlreadyExistsError),
        ({**LABELS, "botmaker.request-id": "wish"}, "wish", OTHER_ID),
        ({}, "wish", NameInUseUnmanagedError),
    ],
)
def test_a_name_taken_since_the_first_look_is_looked_at_again(
    engine: FakeEngine, service: DockerService, labels: dict[str, str], request_id: str, outcome: Any
) -> None:
    engine.on(*BY_NAME, ABSENT, Json(inspected(labels=labels, container_id=OTHER_ID)))
    engine.on(*CREATE, TAKEN)
    try:
        got: Any = service.create_container(BOT, request_id=request_id)
    except ContainerManagerError as exc:
        got = type(exc)
    assert outcome == got
    assert [] == removed(engine)


def test_a_name_taken_and_free_again_is_tried_once_more(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*CREATE, TAKEN, MADE)
    assert ID == service.create_container(BOT)


@pytest.mark.parametrize("request_id", ["", "wish"])
def test_a_container_that_the_engine_is_removing_does_not_exist_and_its_name_is_waited_for(
    engine: FakeEngine, service: DockerService, request_id: str
) -> None:
    labels = {**LABELS, "botmaker.request-id": "wish"}
    engine.on(*BY_NAME, Json(inspected(state("removing"), labels=labels, container_id=OTHER_ID)))
    engine.on(*CREATE, TAKEN, TAKEN, MADE)
    assert ID == service.create_container(BOT, request_id=request_id)
    assert [] == removed(engine)


def test_a_name_that_lingers_without_a_container_is_no_bug_of_ours(engine: FakeEngine, service: DockerService) -> None:
    """Engines keep a name for a moment after its container is gone (moby/moby#37698)."""
    engine.on(*CREATE, TAKEN)
    with pytest.raises(ContainerManagerError) as caught:
        service.create_container(BOT)
    assert "INTERNAL" != caught.value.code


@pytest.mark.parametrize(
    ("bot_id", "config", "cls"),
    [
        ("../x", ContainerConfig(), InvalidBotIdError),
        (BOT, ContainerConfig(network="host"), InvalidConfigError),
        (BOT, ContainerConfig(image="-v /:/host"), InvalidImageReferenceError),
        (BOT, ContainerConfig(image="evil"), ImageNotAllowedError),
    ],
)
def test_a_wrong_request_never_reaches_the_engine(
    engine: FakeEngine,
    make_service: Callable[..., DockerService],
    bot_id: str,
    config: ContainerConfig,
    cls: type[Exception],
) -> None:
    with pytest.raises(cls):
        make_service(allowed_images=("good/*",)).create_container(bot_id, config)
    assert [] == engine.requests


def test_missing_secrets_make_nothing(
    engine: FakeEngine, make_service: Callable[..., DockerService], tmp_path: Any
) -> None:
    refused(make_service(secrets_root=RootDirectory(tmp_path / "none", tmp_path / "none")), SecretsUnavailableError)
    assert [] == engine.seen("POST", "*")


@pytest.mark.parametrize(
    ("answer", "fine"),
    [
        (Json({"Name": "bots", "Driver": "bridge"}), True),
        (Json({"Name": "bots", "Driver": "overlay"}), True),
        (error(404, "network bots not found"), False),
        (error(400, "2 matches found based on ID prefix: network bots is ambiguous"), False),
        (Json({"Name": "botsnet", "Id": "bots", "Driver": "bridge"}), False),
        (Json({"Name": "bots", "Driver": "host"}), False),
        (Json({"Name": "bots", "Driver": "null"}), False),
    ],
)
def test_a_network_is_one_of_that_very_name_and_not_the_hosts(
    engine: FakeEngine, service: DockerService, answer: Json, fine: bool
) -> None:
    engine.on("GET", "/networks/bots", answer)
    config = ContainerConfig(network="bots")
    if fine:
        assert ID == service.create_container(BOT, config)
    else:
        refused(service, InvalidConfigError, config=config)
        assert [] == engine.seen(*CREATE)


def test_what_the_engine_calls_a_bad_request_is_the_callers(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*CREATE, error(400, "Minimum memory limit allowed is 6MB"))
    assert "Minimum memory limit" in str(refused(service, InvalidConfigError))
