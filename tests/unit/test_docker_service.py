# ruff: noqa: PLR0917, ARG002 - fixtures and parameters
"""The operations other than create, on an engine that hangs, fails or changes between two calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.errors import (
    CommandNotFoundError,
    ContainerManagerError,
    ContainerNotFoundError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidBotIdError,
    InvalidConfigError,
    InvalidStateError,
    NameInUseUnmanagedError,
    SecretsUnavailableError,
    StartFailedError,
)
from tests.support.fake_engine import NO_CONTENT, Answer, Cut, FakeEngine, Hang, Json, error
from tests.unit.documents import BOT, ID, NAME, exited, inspected, running, state

BY_NAME = ("GET", f"/containers/{NAME}/json")
BY_ID = ("GET", f"/containers/{ID}/json")
START = ("POST", f"/containers/{ID}/start")
STOP = ("POST", f"/containers/{ID}/stop")
RESTART = ("POST", f"/containers/{ID}/restart")
REMOVE = ("DELETE", f"/containers/{ID}")
LIST = ("GET", "/containers/json")
ABSENT = error(404, "No such container")
CREATED, RUNNING, EXITED = Json(inspected()), Json(inspected(running())), Json(inspected(exited()))
CRASHED = Json(inspected({**running(StartedAt="2026-11-21T00:00:00Z"), "Status": "restarting"}))
LATER = Json(inspected(running(StartedAt="2026-11-21T00:00:00Z")))
MakeService = Callable[..., DockerService]
VERBS = ("start_container", "stop_container", "restart_container", "remove_container")


@pytest.mark.parametrize("verb", [*VERBS, "get_container_status", "create_container"])
def test_a_bad_bot_id_never_reaches_the_engine(engine: FakeEngine, service: DockerService, verb: str) -> None:
    with pytest.raises(InvalidBotIdError):
        getattr(service, verb)("../" + BOT)
    assert [] == engine.requests


@pytest.mark.parametrize("verb", VERBS[1:])
@pytest.mark.parametrize("grace", [-1, float("nan"), 10**9])
def test_a_bad_grace_never_reaches_the_engine(
    engine: FakeEngine, service: DockerService, verb: str, grace: float
) -> None:
    with pytest.raises(InvalidConfigError):
        getattr(service, verb)(BOT, grace)
    assert [] == engine.requests


@pytest.mark.parametrize("verb", VERBS)
def test_a_foreign_container_of_that_name_is_never_touched(
    engine: FakeEngine, service: DockerService, verb: str
) -> None:
    engine.on(*BY_NAME, Json(inspected(running(), labels={})))
    with pytest.raises(NameInUseUnmanagedError):
        getattr(service, verb)(BOT)
    assert {"GET"} == {request.method for request in engine.requests}


def test_the_status_beside_a_foreign_container_is_none(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_NAME, Json(inspected(running(), labels={})))
    assert service.get_container_status(BOT) is None


@pytest.mark.parametrize(("verb", "path"), [("start_container", START), ("restart_container", RESTART)])
class TestStart:
    """Start and restart alike."""

    def test_exactly_one_reaches_the_engine(
        self, engine: FakeEngine, service: DockerService, verb: str, path: Any
    ) -> None:
        engine.on(*BY_NAME, CREATED)
        engine.on(*path, NO_CONTENT)
        getattr(service, verb)(BOT)
        assert [path[1]] == [request.path for request in engine.requests if request.method == "POST"]

    def test_a_missing_container_is_not_found(
        self, engine: FakeEngine, service: DockerService, verb: str, path: Any
    ) -> None:
        with pytest.raises(ContainerNotFoundError):
            getattr(service, verb)(BOT)

    @pytest.mark.parametrize(
        ("answer", "after", "cls"),
        [
            (error(404, "No such container"), ABSENT, ContainerNotFoundError),
            (error(404, "network bots not found"), EXITED, StartFailedError),
            (error(409, "cannot start a paused container"), RUNNING, InvalidStateError),
            (error(500, 'runc: exec: "x": executable file not found in $PATH'), CREATED, CommandNotFoundError),
            (error(400, 'runc: exec: "x": executable file not found in $PATH'), CREATED, CommandNotFoundError),
            (error(500, "?"), CREATED, StartFailedError),
            (error(403, "endpoint with name botmaker-1 already exists in network bridge"), EXITED, StartFailedError),
            (error(403, "denied"), EXITED, EngineAccessDeniedError),
            (Cut(), CREATED, EngineUnavailableError),
        ],
    )
    def test_a_rejected_one_is_told_and_not_tried_again(
        self,
        engine: FakeEngine,
        service: DockerService,
        verb: str,
        path: Any,
        answer: Answer,
        after: Json,
        cls: type[ContainerManagerError],
    ) -> None:
        engine.on(*BY_NAME, CREATED)
        engine.on(*BY_ID, after)
        engine.on(*path, answer)
        with pytest.raises(cls) as caught:
            getattr(service, verb)(BOT)
        assert cls is type(caught.value)
        assert 1 == len(engine.seen("POST", "*"))

    @pytest.mark.parametrize(
        ("before", "after", "fine"),
        [
            (CREATED, RUNNING, True),
            (EXITED, LATER, True),
            (CREATED, CREATED, False),
            (EXITED, EXITED, False),
            (CREATED, ABSENT, False),
        ],
    )
    def test_one_without_an_answer_is_settled_by_what_the_engine_shows(
        self, engine: FakeEngine, make_service: MakeService, verb: str, path: Any, before: Json, after: Json, fine: bool
    ) -> None:
        engine.on(*BY_NAME, before)
        engine.on(*BY_ID, after)
        engine.on(*path, Hang())
        service = make_service(engine_timeout_seconds=0.2, grace_seconds=0)
        if fine:
            getattr(service, verb)(BOT)
        else:
            with pytest.raises(EngineTimeoutError):
                getattr(service, verb)(BOT)
        assert 1 == len(engine.seen("POST", "*"))

    @pytest.mark.parametrize(
        ("status", "after", "raises"),
        [
            *((status, LATER, None) for status in (502, 503, 504)),
            (503, CRASHED, None),
            (502, EXITED, EngineTimeoutError),
            (504, EXITED, EngineTimeoutError),
            (503, EXITED, StartFailedError),
            (504, error(504, "<h1>Gateway Time-out</h1>"), EngineUnavailableError),
        ],
    )
    def test_one_that_a_proxy_has_given_up_is_settled_by_what_the_engine_shows(
        self, engine: FakeEngine, service: DockerService, verb: str, path: Any, status: int, after: Any, raises: Any
    ) -> None:
        engine.on(*BY_NAME, EXITED)
        engine.on(*BY_ID, lambda _: after if engine.seen("POST", "*") else EXITED)
        engine.on(*path, error(status, "<h1>Gateway Time-out</h1>"))
        with pytest.raises(raises) if raises else nullcontext():
            getattr(service, verb)(BOT)
        assert 1 == len(engine.seen("POST", "*"))

    def test_missing_secrets_start_nothing(
        self, engine: FakeEngine, service: DockerService, secrets_root: Any, verb: str, path: Any
    ) -> None:
        (secrets_root.path / BOT).rmdir()
        engine.on(*BY_NAME, CREATED)
        with pytest.raises(SecretsUnavailableError):
            getattr(service, verb)(BOT)
        assert [] == engine.seen("POST", "*")


def test_a_restart_without_an_answer_that_changed_nothing_has_not_happened(
    engine: FakeEngine, make_service: MakeService
) -> None:
    engine.on(*BY_NAME, RUNNING)
    engine.on(*BY_ID, RUNNING)
    engine.on(*RESTART, Hang())
    with pytest.raises(EngineTimeoutError):
        make_service(engine_timeout_seconds=0.2).restart_container(BOT, 0)


@pytest.mark.parametrize("verb", ["stop_container", "remove_container"])
def test_a_missing_container_needs_no_stop_and_no_removal(
    engine: FakeEngine, service: DockerService, verb: str
) -> None:
    getattr(service, verb)(BOT)
    assert {"GET"} == {request.method for request in engine.requests}


@pytest.mark.parametrize(("grace", "sent"), [(None, "7"), (0, "0"), (0.2, "1"), (90, "90")])
@pytest.mark.parametrize(
    ("verb", "path"), [("stop_container", STOP), ("restart_container", RESTART), ("remove_container", STOP)]
)
def test_the_grace_is_the_callers_or_the_configured_one(
    engine: FakeEngine, make_service: MakeService, verb: str, path: Any, grace: float | None, sent: str
) -> None:
    engine.on(*BY_NAME, RUNNING)
    engine.on(*path, NO_CONTENT)
    engine.on(*REMOVE, NO_CONTENT)
    getattr(make_service(grace_seconds=6.5), verb)(BOT, grace)
    assert [sent] == [request.query["t"] for request in engine.seen(*path)]


def test_a_container_gone_at_its_stop_is_stopped(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_NAME, RUNNING)
    engine.on(*STOP, ABSENT)
    service.stop_container(BOT)


@pytest.mark.parametrize(("after", "fine"), [(EXITED, True), (ABSENT, True), (RUNNING, False)])
def test_a_stop_without_an_answer_is_settled_by_what_the_engine_shows(
    engine: FakeEngine, make_service: MakeService, after: Json, fine: bool
) -> None:
    engine.on(*BY_NAME, RUNNING)
    engine.on(*BY_ID, after)
    engine.on(*STOP, Hang())
    service = make_service(engine_timeout_seconds=0.2)
    if fine:
        service.stop_container(BOT, 0)
    else:
        with pytest.raises(EngineTimeoutError):
            service.stop_container(BOT, 0)
    assert 1 == len(engine.seen(*STOP))


@pytest.mark.parametrize(
    ("found", "calls"),
    [
        (RUNNING, ["stop", "remove"]),
        (Json(inspected(state("restarting"))), ["stop", "remove"]),
        (EXITED, ["remove"]),
        (CREATED, ["remove"]),
    ],
)
def test_a_removal_stops_only_what_runs(
    engine: FakeEngine, service: DockerService, found: Json, calls: list[str]
) -> None:
    engine.on(*BY_NAME, found)
    engine.on(*STOP, NO_CONTENT)
    engine.on(*REMOVE, NO_CONTENT)
    service.remove_container(BOT)
    made = [request for request in engine.requests if request.method != "GET"]
    assert calls == ["remove" if request.method == "DELETE" else "stop" for request in made]


def test_a_container_gone_at_its_removal_is_removed(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_NAME, EXITED)
    engine.on(*REMOVE, ABSENT)
    service.remove_container(BOT)


def test_a_removal_under_way_is_waited_for(engine: FakeEngine, service: DockerService) -> None:
    engine.on(*BY_NAME, EXITED)
    engine.on(*REMOVE, error(409, f"removal of container {ID} is already in progress"))
    engine.on(*BY_ID, EXITED, Json(inspected(state("removing"))), Json(inspected(state("removing"))), ABSENT)
    service.remove_container(BOT)
    assert 4 == len(engine.seen(*BY_ID))
    assert 1 == len(engine.seen(*REMOVE))


def test_a_removal_without_an_answer_is_waited_for(engine: FakeEngine, make_service: MakeService) -> None:
    engine.on(*BY_NAME, EXITED)
    engine.on(*REMOVE, Hang())
    engine.on(*BY_ID, EXITED, ABSENT)
    make_service(engine_timeout_seconds=0.5).remove_container(BOT)
    assert 1 == len(engine.seen(*REMOVE))


def test_a_removal_that_never_ends_is_told(engine: FakeEngine, make_service: MakeService) -> None:
    engine.on(*BY_NAME, EXITED)
    engine.on(*REMOVE, error(409, "already in progress"))
    engine.on(*BY_ID, Json(inspected(state("removing"))))
    with pytest.raises(EngineTimeoutError, match="has not finished the removal"):
        make_service(engine_timeout_seconds=0.2).remove_container(BOT)


@pytest.mark.parametrize("verb", ["stop_container", "remove_container"])
def test_a_fault_of_the_engine_is_told(engine: FakeEngine, service: DockerService, verb: str) -> None:
    engine.on(*BY_NAME, RUNNING)
    engine.on(*STOP, error(500, "cannot kill container"))
    with pytest.raises(EngineUnavailableError, match="cannot kill container"):
        getattr(service, verb)(BOT)


@pytest.mark.parametrize("call", ["list_managed_containers", "ping"])
def test_reads_that_the_engine_fails_are_the_domains_error(
    engine: FakeEngine, service: DockerService, call: str
) -> None:
    engine.on("GET", "/containers/json", error(500, "boom"))
    engine.on("GET", "/_ping", error(500, "boom"))
    with pytest.raises(EngineUnavailableError, match="boom"):
        getattr(service, call)()


def test_ping_is_quiet_while_the_engine_answers(service: DockerService) -> None:
    service.ping()
