"""The state directory of a create that fails: one that it made is gone again, one that was there is untouched."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.deadline import Deadline
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerConfig, PullPolicy
from tests.support.fake_engine import Answer, Cut, FakeEngine, Hang, Json, Request, Stream, error
from tests.support.waiting import wait_until
from tests.unit.creating import BY_ID, BY_NAME, CREATE, MADE, MISSING_IMAGE, PULL, TAKEN, let_create_succeed
from tests.unit.documents import BOT, LABELS, inspected
from tests.unit.late_engine import LateEngine

FOREIGN, OURS = Json(inspected(labels={})), Json(inspected())
# What the engine answers, by request; the policy of pulls is "missing".
FAILURES: dict[str, dict[tuple[str, str], Answer]] = {
    "foreign container": {CREATE: TAKEN, BY_NAME: FOREIGN},
    "foreign container seen first": {BY_NAME: FOREIGN},
    "bot has one": {CREATE: TAKEN, BY_NAME: OURS},
    "image not pulled": {CREATE: MISSING_IMAGE, PULL: error(404, "manifest unknown")},
    "pull broken": {CREATE: MISSING_IMAGE, PULL: Stream([{"error": "denied: no"}])},
    "network gone": {CREATE: error(404, "network bots not found")},
    "bad request": {CREATE: error(400, "Minimum memory limit allowed is 6MB")},
    "engine's fault": {CREATE: error(500, "boom")},
    "disk full": {CREATE: error(500, "no space left on device")},
    "no answer": {CREATE: Hang()},
    "broken connection": {CREATE: Cut()},
    "not inspected": {BY_ID: error(500, "boom")},
    "image's request id": {BY_ID: Json(inspected(labels={**LABELS, "botmaker.request-id": "x"}))},
}


@pytest.fixture
def state_root(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def service(make_service: Callable[..., DockerService], state_root: Path) -> DockerService:
    return make_service(state_root=RootDirectory(state_root, state_root), engine_timeout_seconds=0.4)


def create_failed(service: DockerService, deadline: Deadline | None = None) -> None:
    with pytest.raises(ContainerManagerError):
        service.create_container(BOT, deadline=deadline)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_create_that_fails_leaves_no_directory(
    engine: FakeEngine, service: DockerService, state_root: Path, failure: str
) -> None:
    let_create_succeed(engine)
    for path, answer in FAILURES[failure].items():
        engine.on(*path, answer)
    create_failed(service)
    assert [] == list(state_root.iterdir())


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("content", [[], ["memory"]])
def test_a_create_that_fails_leaves_an_existing_directory_as_it_was(
    engine: FakeEngine, service: DockerService, state_root: Path, failure: str, content: list[str]
) -> None:
    let_create_succeed(engine)
    directory = state_root / BOT
    directory.mkdir(mode=0o750)
    for name in content:
        (directory / name).touch()
    before = directory.stat()
    for path, answer in FAILURES[failure].items():
        engine.on(*path, answer)
    create_failed(service)
    after = directory.stat()
    assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (after.st_ino, after.st_mode, after.st_mtime_ns)
    assert content == [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("moment", [CREATE, BY_ID, PULL], ids=["create", "inspection", "pull"])
def test_a_create_that_is_cancelled_leaves_no_directory(
    engine: FakeEngine, service: DockerService, state_root: Path, moment: tuple[str, str]
) -> None:
    let_create_succeed(engine)
    deadline = Deadline()
    answer: Answer = {CREATE: MADE, BY_ID: OURS, PULL: Stream([])}[moment]

    def cancel(_: Request) -> Answer:
        deadline.cancel()
        return answer

    if moment == PULL:
        engine.on(*CREATE, MISSING_IMAGE, MADE)
    engine.on(*moment, cancel)
    create_failed(service, deadline)
    assert [] == list(state_root.iterdir())


def test_an_image_that_is_not_allowed_makes_no_directory(
    make_service: Callable[..., DockerService], state_root: Path
) -> None:
    service = make_service(
        state_root=RootDirectory(state_root, state_root), allowed_images=("good/*",), pull_policy=PullPolicy.NEVER
    )
    for image in ("evil", "good/missing"):
        with pytest.raises(ContainerManagerError):
            service.create_container(BOT, ContainerConfig(image=image))
        assert [] == list(state_root.iterdir())


def test_a_create_that_succeeds_keeps_its_directory_also_after_the_next_one_is_refused(
    engine: FakeEngine, service: DockerService, state_root: Path
) -> None:
    LateEngine(engine)
    service.create_container(BOT)
    create_failed(service)
    assert [BOT] == [path.name for path in state_root.iterdir()]


def test_a_retry_that_gets_the_container_of_a_create_that_was_given_up_has_its_directory(
    engine: FakeEngine, service: DockerService, state_root: Path
) -> None:
    late = LateEngine(engine)
    late.hold(Cut())
    late.before_list.clear()
    with pytest.raises(ContainerManagerError):
        service.create_container(BOT, request_id="wish")
    assert [] == list(state_root.iterdir())
    (made,) = late.carry_out()
    try:
        assert made == service.create_container(BOT, request_id="wish")
    finally:
        late.before_list.set()
    assert [BOT] == [path.name for path in state_root.iterdir()]


@pytest.mark.parametrize("first_succeeds", [True, False])
def test_of_creates_of_one_bot_at_once_a_failed_one_takes_nothing_from_another(
    engine: FakeEngine, service: DockerService, state_root: Path, *, first_succeeds: bool
) -> None:
    late = LateEngine(engine)
    go_on = Event()

    def slow(request: Request) -> Answer:
        if len(engine.seen(*CREATE)) > 1:
            return error(400, "no")
        go_on.wait()
        return late.make(request) if first_succeeds else error(400, "no")

    late.answer_to_create = slow
    with ThreadPoolExecutor() as pool:
        first = pool.submit(service.create_container, BOT)
        engine.await_request(*CREATE)
        create_failed(service)
        left = [path.name for path in state_root.iterdir()]
        go_on.set()
        wait_until(first.done, "the first create has ended")
    assert ([BOT], first_succeeds) == (left, first.exception() is None)
    assert ([BOT] if first_succeeds else []) == [path.name for path in state_root.iterdir()]
