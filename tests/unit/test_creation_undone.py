"""Create with an engine that fails half-way, or a caller that leaves: nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    OperationCancelledError,
)
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, Request, Stream, error
from tests.support.waiting import wait_until
from tests.unit.creating import (
    ABSENT,
    BY_ID,
    CREATE,
    MADE,
    MISSING_IMAGE,
    PULL,
    REMOVE,
    TAKEN,
    let_create_succeed,
    refused,
    removed,
)
from tests.unit.documents import BOT, ID, OTHER_ID, inspected, node_program, state


@pytest.fixture
def engine(engine: FakeEngine) -> FakeEngine:
    """An engine on which a create succeeds, unless a test overrides an answer."""
    return let_create_succeed(engine)


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
    puller = service._lifecycle.images._puller
    wait_until(lambda: len(puller) == 0, "the pull has ended")
    assert 1 == len(engine.seen(*CREATE))
    assert [] == removed(engine)


def test_a_command_that_is_not_there_makes_a_container_without_the_init(
    engine: FakeEngine, service: DockerService
) -> None:
    """Then the engine itself rejects the start."""
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


def test_a_container_that_somebody_removes_amid_its_create_was_created(
    engine: FakeEngine, service: DockerService
) -> None:
    """Its image is not affected: the next container gets its init."""
    engine.on(*BY_ID, Json(inspected()), ABSENT, Json(inspected()))
    engine.on("HEAD", "/containers/*/archive", ABSENT, node_program)
    assert ID == service.create_container(BOT)
    assert ID == service.create_container(BOT)
    assert [True, True] == [request.body["HostConfig"]["Init"] for request in engine.seen(*CREATE)]
    assert [] == removed(engine)


@pytest.mark.parametrize("answer", [ABSENT, error(409, f"removal of container {ID} is already in progress")])
def test_a_container_that_somebody_else_removes_before_its_second_make_is_made_anew(
    engine: FakeEngine, service: DockerService, answer: Json
) -> None:
    engine.on("HEAD", "/containers/*/archive", error(404, "no such file"))
    engine.on(*BY_ID, Json(inspected()), Json(inspected()), Json(inspected(state("removing"))), ABSENT)
    engine.on(*CREATE, MADE, Json({"Id": OTHER_ID}, 201))
    engine.on(*REMOVE, answer)
    assert OTHER_ID == service.create_container(BOT)
    assert [ID] == removed(engine)


def test_a_removal_that_fails_before_the_second_make_is_told(engine: FakeEngine, service: DockerService) -> None:
    engine.on("HEAD", "/containers/*/archive", error(404, "no such file"))
    engine.on(*REMOVE, error(500, "device busy"))
    assert "device busy" in str(refused(service, EngineUnavailableError))
    assert 1 == len(engine.seen(*CREATE))
