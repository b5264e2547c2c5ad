"""Pulls have a few places for each registry and for those that do not answer, so that no registry holds up another."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from container_manager.config import RegistryConfig
from container_manager.deadline import Deadline
from container_manager.engine import images
from container_manager.engine.images import OF_ONE_REGISTRY
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.registry_places import REGISTRIES_AT_ONCE
from container_manager.errors import EngineTimeoutError, ImageRegistryUnavailableError
from container_manager.operation import Pull, carry_out
from tests.support.fake_engine import FakeEngine, Stream
from tests.support.threads import started_since
from tests.support.waiting import wait_until
from tests.unit.pulling import CREATE, Puller, making_puller, stalls


@pytest.fixture
def puller(engine: FakeEngine, calls: LongCalls) -> Iterator[Puller]:
    yield from making_puller(engine, calls)


def test_pulls_of_one_registry_have_a_few_places_and_others_are_pulled_beside_them(
    engine: FakeEngine, puller: Puller
) -> None:
    stalls(engine, "stalled.test", {"status": "Downloading"})
    with ThreadPoolExecutor(41) as pool:
        stalled = [pool.submit(puller.now, f"stalled.test/a:{number}", Deadline(60)) for number in range(40)]
        engine.await_request(*CREATE, OF_ONE_REGISTRY)
        puller.now("other.test/a:1", Deadline(60))
        puller.now("a:1", Deadline(60))
        assert OF_ONE_REGISTRY + 2 == len(engine.seen(*CREATE))
        engine.release()
        assert [None] * 40 == [each.result(60) for each in stalled]


def test_one_pull_tries_a_registry_and_the_others_wait_for_its_first_answer(engine: FakeEngine, puller: Puller) -> None:
    stalls(engine, "stalled.test")
    with ThreadPoolExecutor(41) as pool:
        stalled = [pool.submit(puller.now, f"stalled.test/a:{number}", Deadline(60)) for number in range(40)]
        engine.await_request(*CREATE)
        puller.now("other.test/a:1", Deadline(60))
        assert 2 == len(engine.seen(*CREATE))
        engine.release()
        assert [None] * 40 == [each.result(60) for each in stalled]


def test_a_new_registry_is_pulled_from_at_once_beside_a_hundred_that_never_answer(
    engine: FakeEngine, puller: Puller
) -> None:
    stalls(engine, "stalled-")
    operations = [puller.pull(f"stalled-{number}.test/a:1", Deadline()) for number in range(100)]
    for operation in operations:
        assert isinstance(next(operation), Pull)
    puller.now("new.test/a:1", Deadline(5))
    for operation in operations:
        operation.close()


def test_a_registry_that_has_answered_is_pulled_from_beside_any_number_that_never_answer(
    engine: FakeEngine, puller: Puller
) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    puller.now("good.test/a:1", Deadline(60))
    stalls(engine, "stalled-")
    operations = [puller.pull(f"stalled-{number}.test/a:1", Deadline()) for number in range(2 * REGISTRIES_AT_ONCE)]
    for operation in operations:
        assert isinstance(next(operation), Pull)
    engine.await_request(*CREATE, 1 + REGISTRIES_AT_ONCE)
    for number in range(10):
        puller.now(f"good.test/a:{number}", Deadline(5))
    for operation in operations:
        operation.close()


@pytest.mark.parametrize("registries", [1, 10, 30, 100])
def test_a_hundred_images_of_registries_that_have_stopped_delay_neither_a_new_registry_nor_one_that_answers(
    engine: FakeEngine, puller: Puller, registries: int
) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    for registry in ("good", *(f"stopped-{number}" for number in range(registries))):
        puller.now(f"{registry}.test/a:1", Deadline(60))
    stalls(engine, "stopped-")
    operations = [puller.pull(f"stopped-{number % registries}.test/a:{number}", Deadline()) for number in range(100)]
    for operation in operations:
        next(operation)
    puller.now("new.test/a:1", Deadline(5))
    puller.now("good.test/a:1", Deadline(5))
    for operation in operations:
        operation.close()


def test_a_registry_that_answers_no_more_is_one_that_has_not_answered(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FIRST_MESSAGE_SECONDS", 0.2)
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    puller.now("stalled.test/a:1", Deadline(60))
    stalls(engine, "stalled.test")
    with pytest.raises(ImageRegistryUnavailableError):
        puller.now("stalled.test/a:1", Deadline(60))
    monkeypatch.setattr(images, "FIRST_MESSAGE_SECONDS", 60)
    operations = [puller.pull(f"stalled.test/a:{number}", Deadline()) for number in range(OF_ONE_REGISTRY)]
    for operation in operations:
        next(operation)
    engine.await_request(*CREATE, 3)
    assert 1 == sum(pull.task is not None for pull in puller._pulls.values())
    for operation in operations:
        operation.close()


def test_helpers_that_hang_leave_pulls_from_other_registries_alone(
    engine: FakeEngine, calls: LongCalls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of registries that have answered, so that each has as many pulls as it may."""
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    file = tmp_path / "config.json"
    file.write_text("{}")
    puller = Puller(calls, RegistryConfig(file, required=True))
    registries = [f"hung-{number}.test" for number in range(4)]
    for registry in registries:
        puller.now(f"{registry}/a:1", Deadline(60))
    program = tmp_path / "docker-credential-hangs"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    file.write_text(json.dumps({"credHelpers": dict.fromkeys(registries, "hangs")}))
    images_of_them = [f"{registry}/a:{number}" for registry in registries for number in range(OF_ONE_REGISTRY)]
    operations = [puller.pull(image, Deadline()) for image in images_of_them]
    for operation in operations:
        next(operation)
    assert len(operations) == sum(pull.task is not None for pull in puller._pulls.values())
    puller.now("a:1", Deadline(5))
    for operation in operations:
        operation.close()


def test_pulls_that_find_no_place_come_in_the_order_of_arrival(engine: FakeEngine, puller: Puller) -> None:
    stalls(engine, "stalled.test")
    operations = [puller.pull(f"stalled.test/a:{number}", Deadline()) for number in range(12)]
    for operation in operations:
        next(operation)
    engine.release()
    for operation in operations:
        carry_out(operation)
    tags = [int(request.query["tag"]) for request in engine.seen(*CREATE)]
    # Places come free one by one, so two that start one after the other may arrive the other way round.
    assert all(abs(place - tag) < OF_ONE_REGISTRY for place, tag in enumerate(tags))


def test_four_hundred_pulls_of_registries_that_never_answer_cost_few_threads(
    engine: FakeEngine, puller: Puller
) -> None:
    stalls(engine, "stalled-")
    before = set(threading.enumerate())
    operations = [puller.pull(f"stalled-{number}.test/a:1", Deadline()) for number in range(400)]
    for operation in operations:
        next(operation)
    engine.await_request(*CREATE, REGISTRIES_AT_ONCE)
    # One for all of them, and those that have read their credentials.
    started = started_since(before)
    assert len(started) <= 1 + 32, started
    assert REGISTRIES_AT_ONCE == len(engine.seen(*CREATE))
    for operation in operations:
        operation.close()
    # Nobody waits for those that are queued any more.
    assert REGISTRIES_AT_ONCE == len(puller)


def test_a_pull_that_nobody_waits_for_goes_on_until_its_place_is_needed(engine: FakeEngine, puller: Puller) -> None:
    stalls(engine, "stalled.test", {"status": "Downloading"})
    for number in range(OF_ONE_REGISTRY):
        with pytest.raises(EngineTimeoutError):
            puller.now(f"stalled.test/a:{number}", Deadline(0.05))
        wait_until(lambda: all(pull.heard for pull in puller._pulls.values()), "all have begun")
    assert OF_ONE_REGISTRY == len(puller)
    # One that tries again joins it.
    joined = puller.pull("stalled.test/a:0", Deadline())
    next(joined)
    assert OF_ONE_REGISTRY == len(engine.seen(*CREATE)) == len(puller)
    new = puller.pull("stalled.test/new:1", Deadline())
    next(new)
    engine.await_request(*CREATE, OF_ONE_REGISTRY + 1)
    assert OF_ONE_REGISTRY == len(puller)
    assert {"stalled.test/a:0", "stalled.test/new:1"} <= set(puller._pulls)
    engine.release()
    carry_out(joined)
    carry_out(new)


def test_a_pull_that_the_engine_cannot_end_keeps_its_place(engine: FakeEngine, puller: Puller) -> None:
    stalls(engine, "stalled.test")
    with pytest.raises(EngineTimeoutError):
        puller.now("stalled.test/a:1", Deadline(0.05))
    engine.await_request(*CREATE)
    with pytest.raises(EngineTimeoutError):
        puller.now("stalled.test/new:1", Deadline(0.2))
    assert 1 == len(engine.seen(*CREATE)) == len(puller)


@pytest.mark.parametrize(
    ("seconds", "messages"), [("FIRST_MESSAGE_SECONDS", ()), ("SILENCE_SECONDS", ({"status": "Downloading"},))]
)
def test_a_pull_without_a_sign_of_life_fails_and_gives_its_place_up(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch, seconds: str, messages: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(images, seconds, 0.2)
    stalls(engine, "stalled.test", *messages)
    with ThreadPoolExecutor(OF_ONE_REGISTRY + 1) as pool:
        stalled = [
            pool.submit(puller.now, f"stalled.test/a:{number}", Deadline(60)) for number in range(OF_ONE_REGISTRY + 1)
        ]
        failures = [each.exception(60) for each in stalled]
    assert {ImageRegistryUnavailableError} == {type(failure) for failure in failures}
    assert all("nothing came for 0.2 s" in str(failure) for failure in failures)
