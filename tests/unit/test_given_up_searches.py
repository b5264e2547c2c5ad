"""The search for what the engine makes of creates that are given up: when it begins, what it outlasts, and its end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_manager.backends import given_up_creates
from container_manager.backends.docker.docker_service import DockerService
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.errors import ContainerManagerError, EngineUnavailableError
from container_manager.model import ContainerConfig
from container_manager.operation import carry_out
from tests.support.fake_engine import NO_CONTENT, Answer, Cut, FakeEngine, Hang, Json, Raw, Request, error
from tests.support.waiting import wait_until
from tests.unit.creating import REMOVE, refused
from tests.unit.documents import BOT, NAME, OTHER_BOT
from tests.unit.giving_up import searched_engine
from tests.unit.late_engine import LIST, LateEngine


@pytest.fixture
def late(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[LateEngine]:
    yield from searched_engine(engine, monkeypatch)


@pytest.fixture
def service(make_service: Callable[..., DockerService]) -> DockerService:
    return make_service(engine_timeout_seconds=0.4)


@pytest.mark.parametrize("answer", [error(400, "no"), error(500, "no"), error(401, "no")])
def test_a_refused_create_is_not_searched_for(late: LateEngine, service: DockerService, answer: Json) -> None:
    late.hold(answer)
    with pytest.raises(ContainerManagerError):
        service.create_container(BOT)
    assert (0, []) == (late.searching(), late.searches())


def test_a_create_that_was_not_sent_is_not_searched_for(
    late: LateEngine, secrets_root: RootDirectory, tmp_path: Path
) -> None:
    """An engine that is down may have callers that try again and again."""
    lifecycle = DockerLifecycle(BackendConfig(secrets_root=secrets_root, docker_host=late.engine.url))
    lifecycle.ping()
    lifecycle._engine.close_unused_since(math.inf)
    late.engine.socket_path.rename(tmp_path / "moved")
    with pytest.raises(EngineUnavailableError):
        carry_out(lifecycle.create_container(BOT, ContainerConfig(), absent=True))
    lifecycle.close()
    assert late.searching() == 0


@pytest.mark.parametrize("lost", [Cut(), error(500, "boom"), error(403, "no"), Hang()], ids=str)
def test_the_search_outlasts_an_engine_that_is_lost_for_longer_than_a_search(
    late: LateEngine, service: DockerService, monkeypatch: pytest.MonkeyPatch, lost: Answer
) -> None:
    monkeypatch.setattr(given_up_creates, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(given_up_creates, "SEARCH_SECONDS", 0.2)
    late.hold(Cut())
    is_lost = False
    late.engine.on(*LIST, lambda request: lost if is_lost else late._list(request))
    refused(service, EngineUnavailableError)
    late.await_searches(1)
    is_lost = True
    lost_since = time.monotonic()
    wait_until(lambda: time.monotonic() > lost_since + 0.4, "twice the time of a search has passed")
    late.carry_out()
    is_lost = False
    late.await_the_end()
    assert {} == late.containers


@pytest.mark.parametrize(
    "odd",
    [Json(None), Json(7), Json([None]), Json([{"Labels": 7}]), Json({"message": "no list"}), Raw(b"<html>"), Raw(b"")],
    ids=repr,
)
def test_the_search_outlasts_an_answer_that_cannot_be_read_and_says_so_once(
    late: LateEngine, service: DockerService, odd: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    late.hold(Cut())
    is_odd = True

    def rows(request: Request) -> Answer:
        return odd if is_odd and "status" in request.query["filters"] else late._list(request)

    late.engine.on(*LIST, rows)
    refused(service, EngineUnavailableError)
    late.await_searches(3)
    late.carry_out()
    is_odd = False
    late.await_the_end()
    assert {} == late.containers
    assert (not isinstance(odd, Raw)) == caplog.text.count("unexpected error")


def test_the_search_ends_once_the_engine_has_answered_for_long_enough(
    late: LateEngine, service: DockerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_up_creates, "SEARCH_SECONDS", 0.1)
    late.hold(Cut())
    refused(service, EngineUnavailableError)
    late.await_the_end()
    (made,) = late.carry_out()
    assert [made] == list(late.containers)


def test_one_thread_searches_for_any_number_of_creates(
    late: LateEngine, service: DockerService, secrets_root: RootDirectory
) -> None:
    late.hold(Cut())
    bots = [BOT.replace("0b5f", f"{number:04x}") for number in range(30)]
    for bot_id in bots:
        (secrets_root.path / bot_id).mkdir()
        with pytest.raises(EngineUnavailableError):
            service.create_container(bot_id)
    assert late.searching() == 1
    assert len(bots) == len(late.carry_out())
    late.await_the_end()
    assert {} == late.containers


def test_more_creates_than_the_bound_are_forgotten_and_told(
    late: LateEngine,
    service: DockerService,
    secrets_root: RootDirectory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(given_up_creates, "MAX_GIVEN_UP", 1)
    late.hold(Cut())
    (secrets_root.path / OTHER_BOT).mkdir()
    for bot_id in (BOT, OTHER_BOT):
        with pytest.raises(EngineUnavailableError):
            service.create_container(bot_id)
    late.carry_out()
    late.await_the_end()
    assert [NAME] == [request.query["name"] for request in late.containers.values()]
    assert "more than 1 creates were given up" in caplog.text


def test_without_a_thread_to_be_had_the_error_is_the_creates_and_the_next_one_starts_the_search(
    late: LateEngine, service: DockerService, monkeypatch: pytest.MonkeyPatch, secrets_root: RootDirectory
) -> None:
    late.hold(Cut())
    (secrets_root.path / OTHER_BOT).mkdir()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "creates given up":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        refused(service, EngineUnavailableError)
    with pytest.raises(EngineUnavailableError):
        service.create_container(OTHER_BOT)
    assert len(late.carry_out()) == 2
    late.await_the_end()
    assert {} == late.containers


def test_the_end_of_the_service_ends_the_search_and_says_what_is_left(
    late: LateEngine, service: DockerService, caplog: pytest.LogCaptureFixture
) -> None:
    late.hold(Cut())
    refused(service, EngineUnavailableError)
    late.await_searches(1)
    service.close()
    late.await_the_end()
    (made,) = late.carry_out()
    assert [made] == list(late.containers)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["the engine may still make the containers of 1 creates that were given up"] == [
        record.getMessage() for record in told
    ]


def test_a_service_without_creates_given_up_ends_silently(
    late: LateEngine, service: DockerService, caplog: pytest.LogCaptureFixture
) -> None:
    service.create_container(BOT)
    late.engine.on(*REMOVE, NO_CONTENT)
    service.close()
    assert "given up" not in caplog.text
