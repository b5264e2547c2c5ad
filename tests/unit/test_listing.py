"""The list: every managed container, also when one of them fails."""

from __future__ import annotations

import threading
from contextlib import closing
from contextvars import Context

import pytest

from container_manager.backends.docker import listing
from container_manager.backends.docker.docker_service import DockerService
from container_manager.backends.docker.listing import ContainerLister
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.model import ContainerState
from container_manager.observability.call import Call, current_call
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, Request, error
from tests.unit.documents import BOT, CREATED_S, ID, NAME, OTHER_BOT, exited, inspected, row, running

BY_ID = ("GET", f"/containers/{ID}/json")
LIST = ("GET", "/containers/json")
RUNNING, EXITED = Json(inspected(running())), Json(inspected(exited()))


def test_the_list_is_one_filtered_call(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*LIST, Json([]))
    assert [] == service.list_managed_containers()
    (request,) = engine.seen(*LIST)
    assert ("1", '{"label": ["botmaker.managed=true"]}') == (request.query["all"], request.query["filters"])


def test_the_containers_of_a_bot_have_its_label_or_its_name_whoever_made_them(
    engine: FakeEngine, service: DockerService
) -> None:
    """Those that BotMaker made before have the label and another name."""
    other = "b" * 64
    engine.on(*LIST, Json([]))
    assert [] == service._lifecycle.containers_of_bot(BOT)
    engine.on(*LIST, Json([row(other, BOT)]))
    engine.on("GET", f"/containers/{NAME}/json", Json(inspected(running(), labels={})))
    assert [ID, other] == service._lifecycle.containers_of_bot(BOT)
    assert {("1", f'{{"label": ["botmaker.bot-id={BOT}"]}}')} == {
        (request.query["all"], request.query["filters"]) for request in engine.seen(*LIST)
    }


@pytest.mark.parametrize("answer", [error(500, "boom"), Hang(), Cut()], ids=["fails", "hangs", "is cut"])
def test_a_container_that_cannot_be_inspected_shows_its_row(
    engine: FakeEngine, service: DockerService, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "INSPECT_TIMEOUT_SECONDS", 0.3)
    other = "b" * 64
    engine.on(*LIST, Json([row(), row(other, OTHER_BOT)]))
    engine.on("GET", f"/containers/{other}/json", answer)
    engine.on(*BY_ID, RUNNING)
    found = {status.container_id: status for status in service.list_managed_containers()}
    assert {ID, other} == set(found)
    assert (OTHER_BOT, ContainerState.RUNNING, None) == (
        found[other].bot_id,
        found[other].state,
        found[other].start_time_ns,
    )
    assert found[ID].start_time_ns is not None


def test_a_container_with_a_document_that_makes_no_sense_shows_its_row(
    engine: FakeEngine, service: DockerService
) -> None:
    ports = {"NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "", "HostPort": ""}]}}}
    engine.on(*LIST, Json([row()]))
    engine.on(*BY_ID, Json(inspected(running(), **ports)))
    assert [ID] == [status.container_id for status in service.list_managed_containers()]


def test_a_container_removed_meanwhile_is_left_out(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*LIST, Json([row()]))
    assert [] == service.list_managed_containers()


def test_the_list_is_ordered_by_create_time_and_then_id(engine: FakeEngine, service: DockerService) -> None:
    created = {"c" * 64: "2026-11-20T10:00:00.000000002Z", "a" * 64: "2026-11-20T10:00:01Z"}
    created |= {"d" * 64: "2026-11-20T10:00:00.000000001Z", "b" * 64: "2026-11-20T10:00:01Z"}
    engine.on(*LIST, Json([row(container_id) for container_id in created]))
    for container_id, time in created.items():
        engine.on("GET", f"/containers/{container_id}/json", Json(inspected(container_id=container_id, Created=time)))
    assert "dcab" == "".join(status.container_id[0] for status in service.list_managed_containers())


@pytest.mark.parametrize(
    ("states", "expected"),
    [((), 2), ({ContainerState.RUNNING}, 1), ({ContainerState.EXITED}, 1), ({ContainerState.DEAD}, 0)],
)
def test_the_list_is_narrowed_by_state(
    engine: FakeEngine, service: DockerService, states: set[ContainerState], expected: int
) -> None:
    other = "b" * 64
    engine.on(*LIST, Json([row(State="created", Created=CREATED_S), row(other)]))
    engine.on(*BY_ID, EXITED)
    engine.on("GET", f"/containers/{other}/json", Json(inspected(running(), container_id=other)))
    assert expected == len(service.list_managed_containers(states))


def test_each_inspection_of_a_list_belongs_to_its_call(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although several threads inspect at the same time."""
    monkeypatch.setattr(listing, "INSPECT_TIMEOUT_SECONDS", 60)
    together = threading.Barrier(2)
    told: list[tuple[str, str]] = []

    def observer(operation: str, _outcome: str, _begun_ns: int, _seconds: float) -> None:
        call = current_call.get()
        told.append((operation, "" if call is None else call.request_id))

    def answer(_: Request) -> Json:
        together.wait(60)
        return RUNNING

    engine.on(*LIST, Json([row(), row("b" * 64)]))
    engine.on(*BY_ID, answer)
    engine.on("GET", f"/containers/{'b' * 64}/json", answer)
    client = EngineClient(engine.url, timeout_seconds=60, observer=observer)
    with closing(client), closing(ContainerLister(client, StatusReader())) as lister:

        def ask() -> int:
            current_call.set(Call("r1", None, 0, 0.0))
            return len(lister.list((), Deadline()))

        assert 2 == Context().run(ask)
    assert [("list_containers", "r1"), *[("inspect_container", "r1")] * 2] == told
