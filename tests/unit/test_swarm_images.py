"""The images of bots on a swarm: what their registries are asked for, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from container_manager.backends.swarm.swarm_images import OF_ONE_REGISTRY, SwarmImages
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, RegistryConfig
from container_manager.deadline import Deadline
from container_manager.engine import registry_places
from container_manager.engine.registry_places import FURTHER_AT_ONCE, REGISTRIES_AT_ONCE
from container_manager.engine.swarm import SwarmClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    ImageNotAllowedError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImageRegistryUnavailableError,
    InvalidImageReferenceError,
)
from container_manager.model import PullPolicy
from container_manager.operation import Pull, carry_out
from tests.support.threads import started_since
from tests.support.waiting import wait_until

ID = "sha256:" + "ef" * 32
IMAGE, DIGEST = "registry.test/bot:1", "sha256:" + "ab" * 32
ROOT = RootDirectory(Path("/nowhere"), Path("/nowhere"))
CONFIG = BackendConfig(secrets_root=ROOT, default_image=IMAGE, allowed_images=("registry.test/*",))


class Engine:
    """A manager whose registries answer what the test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.has: dict[str, str] = {}
        """The ids of its own images, by name."""
        self.answer: Callable[[], str] = lambda: DIGEST
        self._before = set(threading.enumerate())

    def threads(self) -> int:
        """How many threads wait for answers: all that have started since this manager is there."""
        return len(started_since(self._before))

    def inspect_image(self, image: str, _deadline: Deadline) -> dict[str, Any] | None:
        return {"Id": self.has[image]} if image in self.has else None

    def distribution(self, image: str, _registry_auth: str | None, _deadline: Deadline) -> dict[str, Any]:
        self.asked.append(image)
        return {"Descriptor": {"digest": self.answer()}}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def images(engine: Engine) -> SwarmImages:
    return SwarmImages(cast("SwarmClient", engine), CONFIG)


def denied(cause: Exception) -> EngineAccessDeniedError:
    error = EngineAccessDeniedError("the Docker Engine at unix:///x refuses this process")
    error.__cause__ = cause
    return error


def test_a_tag_is_resolved_a_digest_is_asked_for_and_an_id_asks_nobody(engine: Engine, images: SwarmImages) -> None:
    assert f"{IMAGE}@{DIGEST}" == carry_out(images.resolve(IMAGE, Deadline()))
    assert [IMAGE] == engine.asked
    other = "registry.test/bot@sha256:" + "cd" * 32
    assert other == carry_out(images.resolve(other, Deadline()))
    assert ID == carry_out(images.resolve(ID, Deadline()))
    assert [IMAGE, other] == engine.asked


def test_with_the_policy_never_the_managers_engine_says_which_image_it_is(engine: Engine) -> None:
    images = SwarmImages(cast("SwarmClient", engine), replace(CONFIG, pull_policy=PullPolicy.NEVER))
    with pytest.raises(ImageNotFoundError, match="not on the manager's engine, and the pull policy is never"):
        carry_out(images.resolve(IMAGE, Deadline()))
    engine.has[IMAGE] = ID
    assert ID == carry_out(images.resolve(IMAGE, Deadline()))
    assert ID == carry_out(images.prepare(IMAGE, Deadline()))
    assert ID == images.pinned(IMAGE, ID)
    assert [] == engine.asked


def test_a_create_with_the_digest_or_id_that_was_prepared_takes_that_image(
    images: SwarmImages,
) -> None:
    assert DIGEST == carry_out(images.prepare(IMAGE, Deadline()))
    assert DIGEST == carry_out(images.prepare("", Deadline()))
    assert f"registry.test/bot@{DIGEST}" == images.pinned(IMAGE, DIGEST)
    assert f"registry.test/bot@{DIGEST}" == images.pinned("", DIGEST)
    anything = SwarmImages(images._engine, replace(CONFIG, allowed_images=()))
    assert ID == carry_out(anything.prepare(ID, Deadline()))
    assert ID == anything.pinned(ID, ID)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("other.test/bot:1", ImageNotAllowedError),
        (DIGEST, ImageNotAllowedError),
        ("Registry.test/BOT", InvalidImageReferenceError),
    ],
)
def test_an_image_that_may_not_be_had_is_refused_before_a_registry_is_asked(
    engine: Engine, images: SwarmImages, image: str, error: type[ContainerManagerError]
) -> None:
    with pytest.raises(error):
        carry_out(images.prepare(image, Deadline()))
    assert [] == engine.asked


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (EngineRejectedError(404, "manifest unknown: manifest unknown"), ImageNotFoundError),
        (EngineRejectedError(404, "pull access denied for bot, repository does not exist"), ImagePullDeniedError),
        (EngineRejectedError(500, "Get https://registry.test/v2/: connection refused"), ImageRegistryUnavailableError),
        (denied(EngineRejectedError(401, "no basic auth credentials")), ImagePullDeniedError),
        (denied(PermissionError(13, "Permission denied")), EngineAccessDeniedError),
        (EngineTimeoutError("the engine did not answer in time"), EngineTimeoutError),
    ],
)
def test_what_a_registry_answers_has_its_own_reason(
    engine: Engine, images: SwarmImages, failure: Exception, error: type[ContainerManagerError]
) -> None:
    def fail() -> str:
        raise failure

    engine.answer = fail
    for _ in range(2):
        with pytest.raises(ContainerManagerError) as caught:
            carry_out(images.resolve(IMAGE, Deadline()))
        assert error is type(caught.value)
    assert [IMAGE, IMAGE] == engine.asked, "a failure is not remembered"


def test_all_who_want_an_image_at_once_wait_for_one_answer(engine: Engine, images: SwarmImages) -> None:
    answered = threading.Event()

    def answer() -> str:
        assert answered.wait(60)
        return DIGEST

    engine.answer = answer
    waiting = [images.resolve(IMAGE, Deadline()) for _ in range(8)]
    for operation in waiting:
        assert isinstance(next(operation), Pull)
    with pytest.raises(ContainerManagerError):
        carry_out(images.resolve(IMAGE, Deadline(0.01)))
    answered.set()
    assert {f"{IMAGE}@{DIGEST}"} == {carry_out(operation) for operation in waiting}
    assert [IMAGE] == engine.asked


@pytest.mark.parametrize(
    ("registries", "most", "have_answered"),
    [
        (1, 1, False),
        (2, 2, False),
        (200, REGISTRIES_AT_ONCE, False),
        (1, OF_ONE_REGISTRY, True),
        (2, 2 * OF_ONE_REGISTRY, True),
        (20, 20 + FURTHER_AT_ONCE, True),
        (200, REGISTRIES_AT_ONCE, True),
    ],
    ids=["1", "2", "200", "1 answered before", "2 answered before", "20 answered before", "200 answered before"],
)
def test_registries_that_do_not_answer_hold_a_bounded_number_of_threads_and_nothing_for_callers_that_left(
    engine: Engine, images: SwarmImages, registries: int, most: int, *, have_answered: bool
) -> None:
    for number in range(registries * have_answered):
        carry_out(images.resolve(f"registry-{number}.test/bot:before", Deadline()))
    engine.asked.clear()
    answered = threading.Event()

    def answer() -> str:
        assert answered.wait(60)
        return DIGEST

    engine.answer = answer
    for number in range(200):
        with pytest.raises(EngineTimeoutError):
            carry_out(images.resolve(f"registry-{number % registries}.test/bot:{number}", Deadline(0)))
    assert most == engine.threads()
    waiting = images.resolve("registry-0.test/bot:new", Deadline())
    next(waiting)
    answered.set()
    assert f"registry-0.test/bot:new@{DIGEST}" == carry_out(waiting)
    wait_until(lambda: engine.threads() == 0, "the threads end")
    assert most + 1 == len(engine.asked), "what nobody waits for is not asked"
    assert {} == images._questions


def test_a_registry_that_does_not_answer_delays_no_other_one(engine: Engine, images: SwarmImages) -> None:
    answered = threading.Event()

    def answer() -> str:
        if engine.asked[-1].startswith("slow"):
            assert answered.wait(60)
        return DIGEST

    engine.answer = answer
    for number in range(100):
        next(slow := images.resolve(f"slow.test/bot:{number}", Deadline()))
        slow.close()
    wait_until(lambda: len(engine.asked) == 1, "one of its images is asked for")
    assert f"{IMAGE}@{DIGEST}" == carry_out(images.resolve(IMAGE, Deadline(60)))
    answered.set()
    wait_until(lambda: engine.threads() == 0, "the threads end")


@pytest.mark.parametrize("answered_before", [False, True])
@pytest.mark.parametrize("registries", [1, 10, 30, 100])
def test_a_hundred_images_of_registries_that_do_not_answer_delay_neither_a_new_registry_nor_one_that_answers(
    engine: Engine, images: SwarmImages, monkeypatch: pytest.MonkeyPatch, registries: int, *, answered_before: bool
) -> None:
    released = threading.Event()

    def distribution(image: str, _registry_auth: str | None, _deadline: Deadline) -> dict[str, Any]:
        if image.startswith("slow") and not image.endswith(":before"):
            assert released.wait(60)
        return {"Descriptor": {"digest": DIGEST}}

    monkeypatch.setattr(engine, "distribution", distribution)
    carry_out(images.resolve(IMAGE, Deadline()))
    for registry in range(registries * answered_before):
        carry_out(images.resolve(f"slow-{registry}.test/bot:before", Deadline()))
    waiting = [images.resolve(f"slow-{number % registries}.test/bot:{number}", Deadline()) for number in range(100)]
    for each in waiting:
        next(each)
    assert f"new.test/bot:1@{DIGEST}" == carry_out(images.resolve("new.test/bot:1", Deadline(10)))
    assert f"{IMAGE}@{DIGEST}" == carry_out(images.resolve(IMAGE, Deadline(10)))
    for each in waiting:
        each.close()
    released.set()
    wait_until(lambda: engine.threads() == 0, "the threads end")


def test_the_place_of_a_registry_that_has_answered_is_taken_before_its_further_images_have_an_answer(
    engine: Engine, images: SwarmImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_places, "REGISTRIES_AT_ONCE", 1)
    answers, released = threading.Event(), threading.Event()

    def distribution(image: str, _registry_auth: str | None, _deadline: Deadline) -> dict[str, Any]:
        if image.startswith("slow"):
            assert (answers if image.endswith(":0") else released).wait(60)
        return {"Descriptor": {"digest": DIGEST}}

    monkeypatch.setattr(engine, "distribution", distribution)
    slow = [images.resolve(f"slow.test/bot:{number}", Deadline()) for number in range(4)]
    new = images.resolve("new.test/bot:1", Deadline(10))
    for each in (*slow, new):
        next(each)
    answers.set()
    assert f"new.test/bot:1@{DIGEST}" == carry_out(new)
    released.set()
    assert [f"slow.test/bot:{number}@{DIGEST}" for number in range(4)] == [carry_out(each) for each in slow]
    wait_until(lambda: engine.threads() == 0, "the threads end")


def test_a_registry_that_stops_is_asked_for_one_image_at_a_time_and_for_more_once_it_answers(
    engine: Engine, images: SwarmImages
) -> None:
    def refuse() -> str:
        raise EngineTimeoutError("the engine has no answer")

    carry_out(images.resolve("slow.test/bot:1", Deadline()))
    engine.answer = refuse
    with pytest.raises(EngineTimeoutError):
        carry_out(images.resolve("slow.test/bot:1", Deadline()))
    answers = [threading.Event() for _ in range(2)]
    threads: list[int] = []

    def answer() -> str:
        assert answers[0 if not threads else 1].wait(60)
        threads.append(engine.threads())
        return DIGEST

    engine.answer, asked_before = answer, len(engine.asked)
    waiting = [images.resolve(f"slow.test/bot:{number}", Deadline()) for number in range(20)]
    for each in waiting:
        next(each)
    assert 1 == engine.threads()
    answers[0].set()
    wait_until(lambda: len(engine.asked) >= asked_before + 3, "more are asked for")
    answers[1].set()
    assert [f"slow.test/bot:{number}@{DIGEST}" for number in range(20)] == [carry_out(each) for each in waiting]
    assert max(threads) <= OF_ONE_REGISTRY
    wait_until(lambda: engine.threads() == 0, "the threads end")


@pytest.mark.parametrize(
    ("image", "policy", "read"),
    [
        (f"{IMAGE}@{DIGEST}", PullPolicy.MISSING, True),
        (ID, PullPolicy.MISSING, False),
        (ID, PullPolicy.NEVER, False),
        (f"{IMAGE}@{DIGEST}", PullPolicy.NEVER, False),
    ],
)
def test_a_start_asks_for_credentials_only_where_nodes_pull(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, image: str, policy: PullPolicy, read: bool
) -> None:
    missing = RegistryConfig(tmp_path / "none.json", required=True)
    config = replace(CONFIG, registry_config=missing, pull_policy=policy)
    assert SwarmImages(cast("SwarmClient", engine), config).current_credentials(image, Deadline()) is None
    assert read is ("get no new credentials" in caplog.text)
    assert IMAGE not in caplog.text
