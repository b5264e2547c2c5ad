# ruff: noqa: PLR0917 - fixtures and parameters
"""Create against an engine that fails in between: nothing stays behind, and each failure has its own name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.deadline import Deadline
from container_manager.docker_service import DockerService
from container_manager.errors import (
    ContainerAlreadyExistsError,
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageNotAllowedError,
    ImageNotFoundError,
    ImagePullFailedError,
    InvalidBotIdError,
    InvalidConfigError,
    InvalidImageReferenceError,
    NameInUseUnmanagedError,
    OperationCancelledError,
    SecretsUnavailableError,
)
from container_manager.model import ContainerConfig, PullPolicy
from tests.support.fake_engine import NO_CONTENT, Answer, Cut, FakeEngine, Hang, Json, Request, Stream, error
from tests.unit.documents import BOT, ID, IMAGE_ID, LABELS, NAME, OTHER_BOT, OTHER_ID, inspected, path_stat

BY_NAME = ("GET", f"/containers/{NAME}/json")
BY_ID = ("GET", f"/containers/{ID}/json")
CREATE = ("POST", "/containers/create")
REMOVE = ("DELETE", "/containers/*")
PULL = ("POST", "/images/create")
ABSENT = error(404, "No such container")
MADE = Json({"Id": ID, "Warnings": []}, 201)
MISSING_IMAGE = error(404, "No such image: botmaker/openclaw:1")
TAKEN = error(409, f'Conflict. The container name "/{NAME}" is already in use by container "{OTHER_ID}".')


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """An engine on which a create succeeds, unless a test says otherwise."""
    engine.on(*BY_NAME, ABSENT)
    engine.on(*CREATE, MADE)
    engine.on(*BY_ID, Json(inspected()))
    engine.on("HEAD", "/containers/*/archive", path_stat(0o755))
    engine.on(*REMOVE, NO_CONTENT)
    engine.on(*PULL, Stream([{"status": "Downloaded"}]))
    return engine


def refused(service: DockerService, cls: type[ContainerManagerError], **arguments: Any) -> ContainerManagerError:
    with pytest.raises(cls) as caught:
        service.create_container(BOT, **arguments)
    assert cls is type(caught.value)
    return caught.value


def removed(engine: FakeEngine) -> list[str]:
    return [request.path.rpartition("/")[2] for request in engine.seen(*REMOVE)]


def test_a_create_is_one_create(engine: FakeEngine, service: DockerService) -> None:
    assert ID == service.create_container(BOT, ContainerConfig(image="botmaker/openclaw:1"), request_id="wish")
    (request,) = engine.seen(*CREATE)
    assert NAME == request.query["name"]
    assert {**LABELS, "botmaker.request-id": "wish"} == request.body["Labels"]
    assert [] == removed(engine)
    assert [] == engine.seen(*PULL)


@pytest.mark.parametrize(
    ("answer", "cls"),
    [
        (error(500, "boom"), EngineUnavailableError),
        (Hang(), EngineTimeoutError),
        (Cut(), EngineUnavailableError),
        (error(400, "bad parameter"), ContainerManagerError),
    ],
)
def test_a_failure_after_the_create_removes_the_container_once(
    engine: FakeEngine, make_service: Callable[..., DockerService], answer: Answer, cls: type[ContainerManagerError]
) -> None:
    engine.on(*BY_ID, answer)
    refused(make_service(engine_timeout_seconds=0.4), cls)
    assert [ID] == removed(engine)


@pytest.mark.parametrize(("answer", "cls"), [(Hang(), EngineTimeoutError), (Cut(), EngineUnavailableError)])
def test_a_create_without_an_answer_is_undone_if_it_was_made(
    engine: FakeEngine, make_service: Callable[..., DockerService], answer: Answer, cls: type[ContainerManagerError]
) -> None:
    engine.on(*BY_NAME, ABSENT, Json(inspected()))
    engine.on(*CREATE, answer)
    refused(make_service(engine_timeout_seconds=0.4), cls)
    assert 1 == len(engine.seen(*CREATE))
    assert [ID] == removed(engine)


def test_a_create_without_an_answer_touches_no_foreign_container(
    engine: FakeEngine, make_service: Callable[..., DockerService]
) -> None:
    engine.on(*BY_NAME, ABSENT, Json(inspected(labels={})))
    engine.on(*CREATE, Hang())
    refused(make_service(engine_timeout_seconds=0.4), EngineTimeoutError)
    assert [] == removed(engine)


def test_a_failed_undo_does_not_hide_what_led_to_it(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_ID, error(500, "the first fault"))
    engine.on(*REMOVE, error(500, "the second fault"))
    assert "the first fault" in str(refused(service, EngineUnavailableError))


def test_a_create_cancelled_after_it_was_made_is_removed_once(engine: FakeEngine, service: DockerService) -> None:
    deadline = Deadline()

    def inspect(_: Request) -> Json:
        deadline.cancel()
        return Json(inspected())

    engine.on(*BY_ID, inspect)
    refused(service, OperationCancelledError, deadline=deadline)
    assert [ID] == removed(engine)


def test_a_create_cancelled_before_it_was_made_makes_nothing(engine: FakeEngine, service: DockerService) -> None:
    deadline = Deadline()
    deadline.cancel()
    refused(service, OperationCancelledError, deadline=deadline)
    assert [] == engine.seen(*CREATE)


def test_a_create_cancelled_while_it_pulls_is_free_at_once(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*CREATE, MISSING_IMAGE)
    engine.on(*PULL, Hang(Stream([])))
    deadline = Deadline()
    with ThreadPoolExecutor() as pool:
        creating = pool.submit(service.create_container, BOT, deadline=deadline)
        engine.await_request(*PULL)
        deadline.cancel()
        assert OperationCancelledError is type(creating.exception(5))
    engine.release()
    for thread in threading.enumerate():
        if thread.name.startswith("pull "):
            thread.join(10)
    assert 1 == len(engine.seen(*CREATE))
    assert [] == removed(engine)


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


def test_a_name_that_lingers_without_a_container_is_no_bug_of_ours(engine: FakeEngine, service: DockerService) -> None:
    """Engines keep a name for a while after its container is gone (moby/moby#37698)."""
    engine.on(*CREATE, TAKEN)
    with pytest.raises(ContainerManagerError) as caught:
        service.create_container(BOT)
    assert "INTERNAL" != caught.value.code


def test_a_command_that_is_not_there_makes_a_container_without_the_init(
    engine: FakeEngine, service: DockerService
) -> None:
    """So that the engine itself rejects its start."""
    engine.on("HEAD", "/containers/*/archive", error(404, "no such file"))
    engine.on(*CREATE, MADE, Json({"Id": OTHER_ID}, 201))
    assert OTHER_ID == service.create_container(BOT)
    assert [True, False] == [request.body["HostConfig"]["Init"] for request in engine.seen(*CREATE)]
    assert [ID] == removed(engine)


@pytest.mark.parametrize(
    "second",
    [MISSING_IMAGE, TAKEN, error(500, "boom"), error(400, "no")],
    ids=["image gone", "name taken", "fault", "refused"],
)
def test_a_failure_of_the_second_make_is_the_domains_error(
    engine: FakeEngine, service: DockerService, second: Json
) -> None:
    engine.on("HEAD", "/containers/*/archive", error(404, "no such file"))
    engine.on(*CREATE, MADE, second)
    with pytest.raises(ContainerManagerError):
        service.create_container(BOT)
    assert {ID} == set(removed(engine))


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


def test_the_default_image_is_always_allowed(engine: FakeEngine, make_service: Callable[..., DockerService]) -> None:
    service = make_service(allowed_images=("good/*",), default_image="mine:1")
    service.create_container(BOT)
    assert ["mine:1"] == [request.body["Image"] for request in engine.seen(*CREATE)]


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
