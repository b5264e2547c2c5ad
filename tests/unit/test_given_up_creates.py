"""Creates that are given up: what the engine makes of them afterwards is removed, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.deadline import Deadline
from container_manager.errors import (
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidConfigError,
    OperationCancelledError,
)
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, Request, error
from tests.unit.creating import CREATE, REMOVE, refused, removed
from tests.unit.documents import BOT, LABELS, inspected
from tests.unit.giving_up import searched_engine
from tests.unit.late_engine import LIST, LateEngine

GAVE_UP: list[tuple[Answer, type[ContainerManagerError]]] = [
    (Hang(), EngineTimeoutError),
    (Cut(), EngineUnavailableError),
    (error(504, "gateway time-out"), EngineUnavailableError),
    (Json({"Warnings": []}, 201), EngineUnavailableError),
]


@pytest.fixture
def late(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[LateEngine]:
    yield from searched_engine(engine, monkeypatch)


@pytest.fixture
def service(make_service: Callable[..., DockerService]) -> DockerService:
    return make_service(engine_timeout_seconds=0.4)


@pytest.mark.parametrize("request_id", ["", "wish"])
@pytest.mark.parametrize(("answer", "cls"), GAVE_UP, ids=["time-out", "broken", "proxy", "no id"])
def test_what_the_engine_makes_after_the_create_was_given_up_is_removed(
    late: LateEngine, service: DockerService, answer: Answer, cls: type[ContainerManagerError], request_id: str
) -> None:
    late.hold(answer)
    refused(service, cls, request_id=request_id)
    late.await_searches(3)
    made = late.carry_out()
    late.await_the_end()
    assert (made, {}) == (removed(late.engine), late.containers)


def test_what_it_has_made_already_is_removed_at_once(late: LateEngine, service: DockerService) -> None:
    def make(request: Request) -> Answer:
        late.make(request)
        return Cut()

    late.answer_to_create = make
    refused(service, EngineUnavailableError)
    late.await_the_end()
    assert (1, {}) == (len(late.searches()), late.containers)


def test_no_other_container_is_removed(late: LateEngine, service: DockerService) -> None:
    others = [
        LABELS,
        {**LABELS, "botmaker.create-id": "another call's"},
        {**LABELS, "botmaker.create-id": ""},
        {**LABELS, "botmaker.request-id": "wish"},
        {"botmaker.managed": "true"},
    ]
    for number, labels in enumerate(others):
        body = {"Labels": labels, "HostConfig": {"Mounts": []}}
        late.make(Request("POST", "/containers/create", {"name": str(number)}, body, "1.41", {}, 0))
    before = dict(late.containers)
    late.hold(Cut())
    refused(service, EngineUnavailableError, request_id="wish")
    late.carry_out()
    late.await_the_end()
    assert before == late.containers


def test_a_container_that_somebody_has_started_stays(late: LateEngine, service: DockerService) -> None:
    """Also if it is started between the look and the removal."""
    late.hold(Cut())
    late.before_list.clear()
    refused(service, EngineUnavailableError)
    (made,) = late.carry_out()
    late.await_searches(1)
    late.before_list.set()
    late.engine.on(*REMOVE, lambda request: (late.running.add(made), late.remove(request))[1])
    late.await_the_end()
    assert [made] == list(late.containers)


def test_a_later_create_of_the_same_request_keeps_the_container(late: LateEngine, service: DockerService) -> None:
    """Also while the search has seen it already."""
    late.hold(Cut())
    seen = threading.Event()
    adopted = threading.Event()

    def look(request: Request) -> Json:
        rows = late._list(request)
        if rows.document:
            seen.set()
            adopted.wait(60)
        return rows

    late.engine.on(*LIST, look)
    refused(service, EngineUnavailableError, request_id="wish")
    (made,) = late.carry_out()
    seen.wait(60)
    assert made == service.create_container(BOT, request_id="wish")
    adopted.set()
    late.await_the_end()
    assert ([made], []) == (list(late.containers), removed(late.engine))


def test_a_later_create_of_another_request_does_not_wait_for_the_search(
    late: LateEngine, service: DockerService
) -> None:
    late.hold(Cut())
    late.before_list.clear()
    refused(service, EngineUnavailableError, request_id="wish")
    (made,) = late.carry_out()
    created = service.create_container(BOT, request_id="another")
    late.before_list.set()
    late.await_the_end()
    assert ([created], [made]) == (list(late.containers), removed(late.engine))


def test_a_later_create_of_the_same_request_is_made_anew_while_the_first_ones_container_is_removed(
    late: LateEngine, service: DockerService
) -> None:
    late.hold(Cut())
    removing, looked = threading.Event(), threading.Event()

    def remove(request: Request) -> Answer:
        removing.set()
        looked.wait(60)
        return late.remove(request)

    late.engine.on(*REMOVE, remove)
    refused(service, EngineUnavailableError, request_id="wish")
    (made,) = late.carry_out()
    removing.wait(60)
    late.engine.requests.clear()
    with ThreadPoolExecutor() as pool:
        creating = pool.submit(service.create_container, BOT, request_id="wish")
        try:
            late.engine.await_request(*CREATE, timeout=10)
        finally:
            looked.set()
        created = creating.result(60)
    late.await_the_end()
    assert made != created
    assert [created] == list(late.containers)


@pytest.mark.parametrize("fault", [error(500, "device busy"), Cut(), Hang()], ids=["fault", "broken", "time-out"])
@pytest.mark.parametrize("why", ["cancelled", "deadline", "refused"])
def test_a_container_that_cannot_be_removed_when_its_create_is_given_up_is_removed_later(
    late: LateEngine, service: DockerService, fault: Answer, why: str
) -> None:
    deadline = Deadline()
    late.engine.on(*REMOVE, fault, late.remove)

    def inspect(request: Request) -> Answer:
        if why == "cancelled":
            deadline.cancel()
        if why == "deadline":
            deadline._ends = 0.0
        labels = {**LABELS, "botmaker.request-id": "the image's"} if why == "refused" else LABELS
        return Json(inspected(container_id=next(iter(late.containers)), labels=labels))

    late.engine.on("GET", f"/containers/{1:064x}/json", inspect)
    classes = {"cancelled": OperationCancelledError, "deadline": EngineTimeoutError, "refused": InvalidConfigError}
    refused(service, classes[why], deadline=deadline)
    late.await_the_end()
    assert {} == late.containers


def test_a_second_make_without_an_answer_is_searched_for(late: LateEngine, service: DockerService) -> None:
    late.engine.on("HEAD", "/containers/*/archive", error(404, "no such file"))

    def make(request: Request) -> Answer:
        if request.body["HostConfig"]["Init"]:
            return late.make(request)
        late.held.append(request)
        return Cut()

    late.answer_to_create = make
    refused(service, EngineUnavailableError)
    late.await_searches(2)
    late.carry_out()
    late.await_the_end()
    assert {} == late.containers
