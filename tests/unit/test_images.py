"""Callers share a pull, and a caller that gives up returns at once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from container_manager.backend_maintenance import Pulled
from container_manager.config import RegistryConfig
from container_manager.deadline import Deadline
from container_manager.engine import images
from container_manager.engine.images import OF_ONE_REGISTRY, UNANSWERED_AT_ONCE, ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    EngineTimeoutError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
    OperationCancelledError,
)
from container_manager.operation import carry_out
from tests.support.fake_engine import Cut, FakeEngine, Hang, Request, Stream, error
from tests.support.waiting import wait_until

CREATE = ("POST", "/images/create")


class Puller(ImagePuller):
    """Pulls for callers that wait in threads."""

    def now(self, reference: str, deadline: Deadline) -> None:
        """Pull, and return when it is done."""
        carry_out(self.pull(reference, deadline))


@pytest.fixture
def calls(engine: FakeEngine) -> Iterator[LongCalls]:
    calls = LongCalls(engine.url, timeout_seconds=5)
    yield calls
    calls.close()


@pytest.fixture
def puller(engine: FakeEngine, calls: LongCalls) -> Iterator[Puller]:
    """Asserts that every pull has ended after the test."""
    puller = Puller(calls)
    yield puller
    engine.release()
    wait_until(lambda: not len(puller), "all pulls end")


def test_a_pull_returns_when_its_stream_has_ended_well(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}, {"status": "Downloaded"}]))
    puller.now("a:1", Deadline(5))
    assert 1 == len(engine.seen(*CREATE))


@pytest.mark.parametrize(
    ("reference", "repository", "tag"),
    [
        ("reg.test:5000/a:1", "reg.test:5000/a", "1"),
        ("a", "a", "latest"),
        (f"a@sha256:{'0' * 64}", "a", f"sha256:{'0' * 64}"),
    ],
)
def test_a_pull_is_of_one_image(engine: FakeEngine, puller: Puller, reference: str, repository: str, tag: str) -> None:
    engine.on(*CREATE, Stream([]))
    puller.now(reference, Deadline(5))
    (request,) = engine.seen(*CREATE)
    assert {"fromImage": repository, "tag": tag} == dict(request.query)


def test_a_pull_cut_in_the_middle_has_failed(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}], cut=True))
    with pytest.raises(EngineUnavailableError):
        puller.now("a:1", Deadline(5))


def test_all_who_wait_for_an_image_share_one_pull(engine: FakeEngine, puller: Puller) -> None:
    waiting = threading.Semaphore(0)
    hung = threading.Event()

    def answer(_: Request) -> Stream:
        hung.wait(60)
        return Stream([{"status": "ok"}])

    class Waiter(Deadline):
        def remaining(self) -> float | None:
            waiting.release()
            return super().remaining()

    engine.on(*CREATE, answer)
    with ThreadPoolExecutor(8) as pool:
        pulls = [pool.submit(puller.now, "a:1", Waiter(60)) for _ in range(8)]
        for _ in pulls:
            assert waiting.acquire(timeout=60)
        hung.set()
        assert [None] * 8 == [pull.result(60) for pull in pulls]
    assert 1 == len(engine.seen(*CREATE))


def test_different_images_are_pulled_side_by_side(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    puller.now("a:0", Deadline(60))
    together = threading.Barrier(2)

    def answer(_: Request) -> Stream:
        together.wait(60)
        return Stream([])

    engine.on(*CREATE, answer)
    with ThreadPoolExecutor(2) as pool:
        for pull in [pool.submit(puller.now, reference, Deadline(60)) for reference in ("a:1", "a:2")]:
            pull.result(60)
    assert {"0", "1", "2"} == {request.query["tag"] for request in engine.seen(*CREATE)}


def test_cancel_frees_the_waiter_at_once_while_the_pull_hangs(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Hang(Stream([])))
    deadline = Deadline()
    with ThreadPoolExecutor() as pool:
        pull = pool.submit(puller.now, "a:1", deadline)
        engine.await_request(*CREATE)
        assert not pull.done()
        deadline.cancel()
        with pytest.raises(OperationCancelledError):
            pull.result(60)


def test_a_cancelled_waiter_leaves_the_pull_to_the_others(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Hang(Stream([])))
    gone = Deadline()
    with ThreadPoolExecutor() as pool:
        staying = pool.submit(puller.now, "a:1", Deadline(60))
        engine.await_request(*CREATE)
        leaving = pool.submit(puller.now, "a:1", gone)
        gone.cancel()
        with pytest.raises(OperationCancelledError):
            leaving.result(60)
        engine.release()
        assert staying.result(60) is None
    assert 1 == len(engine.seen(*CREATE))


def test_the_deadline_frees_the_waiter_while_the_pull_hangs(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Hang())
    with pytest.raises(EngineTimeoutError):
        puller.now("a:1", Deadline(0.1))


@pytest.mark.parametrize(
    ("answer", "cls", "text"),
    [
        (error(404, "manifest unknown"), ImageNotFoundError, "manifest unknown"),
        (error(500, "some fault"), ImagePullFailedError, "some fault"),
        (Stream([{"status": "x"}, {"errorDetail": {"message": "denied: no"}}]), ImagePullDeniedError, "denied: no"),
        (Stream([{"status": "x"}, {"error": "unexpected EOF"}]), ImageRegistryUnavailableError, "unexpected EOF"),
        (Stream([{"errorDetail": {"code": 401, "message": "no"}}]), ImagePullDeniedError, "pulled: no"),
        (error(401, "no"), ImagePullDeniedError, "pulled: no"),
        (error(403, "no"), ImagePullDeniedError, "pulled: no"),
        (
            Stream([{"errorDetail": None, "error": "e"}, {"status": "x"}]),
            ImagePullFailedError,
            "could not be pulled: e",
        ),
        (Stream([{"error": "no space left on device"}]), CapacityExceededError, "no space left"),
        (Cut(), EngineUnavailableError, "cannot be reached"),
    ],
)
def test_a_failed_pull_is_the_domains_error_wherever_it_was_told(
    engine: FakeEngine, puller: Puller, answer: Stream, cls: type[ContainerManagerError], text: str
) -> None:
    engine.on(*CREATE, answer)
    with pytest.raises(cls, match=text) as caught:
        puller.now("a:1", Deadline(5))
    assert cls is type(caught.value)


def test_a_failure_reaches_all_who_wait(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, Hang(error(404, "manifest unknown")))
    with ThreadPoolExecutor(4) as pool:
        pulls = [pool.submit(puller.now, "a:1", Deadline(60)) for _ in range(4)]
        engine.await_request(*CREATE)
        engine.release()
        assert [ImageNotFoundError] * 4 == [type(pull.exception(10)) for pull in pulls]


def test_the_next_pull_after_a_failure_is_a_new_one(engine: FakeEngine, puller: Puller) -> None:
    engine.on(*CREATE, error(404, "manifest unknown"), Stream([]))
    with pytest.raises(ImageNotFoundError):
        puller.now("a:1", Deadline(5))
    puller.now("a:1", Deadline(5))
    puller.now("a:1", Deadline(5))
    assert 3 == len(engine.seen(*CREATE))


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


def test_a_registry_that_has_answered_is_pulled_from_beside_any_number_that_never_answer(
    engine: FakeEngine, puller: Puller
) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}]))
    puller.now("good.test/a:1", Deadline(60))
    stalls(engine, "stalled-")
    operations = [puller.pull(f"stalled-{number}.test/a:1", Deadline()) for number in range(100)]
    for operation in operations:
        next(operation)
    engine.await_request(*CREATE, 1 + UNANSWERED_AT_ONCE)
    for number in range(10):
        puller.now(f"good.test/a:{number}", Deadline(5))
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
    operations = [puller.pull(f"stalled-{number}.test/a:1", Deadline()) for number in range(400)]
    for operation in operations:
        next(operation)
    engine.await_request(*CREATE, UNANSWERED_AT_ONCE)
    ours = [thread.name for thread in threading.enumerate() if thread.name.startswith(("credentials", "long"))]
    # One for all of them, and those that have read their credentials.
    assert len(ours) <= 1 + 32
    assert UNANSWERED_AT_ONCE == len(engine.seen(*CREATE))
    for operation in operations:
        operation.close()
    # Nobody waits for those that are queued any more.
    assert UNANSWERED_AT_ONCE == len(puller)


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


def test_a_pull_with_signs_of_life_may_take_longer(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SILENCE_SECONDS", 0.5)

    def slowly() -> Iterator[dict[str, str]]:
        for _ in range(8):
            threading.Event().wait(0.1)
            yield {"status": "Downloading"}

    engine.on(*CREATE, Stream(slowly()))
    puller.now("a:1", Deadline(60))


def test_who_waits_for_a_pull_is_told_how_far_it_is(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "PROGRESS_SECONDS", 0.01)
    seen: list[Pulled] = []

    def until(pulled: Pulled) -> None:
        wait_until(lambda: seen[-1:] == [pulled], f"{pulled} is told")

    def downloading(layer: str, current: int, total: int) -> dict[str, Any]:
        return {"status": "Downloading", "id": layer, "progressDetail": {"current": current, "total": total}}

    def messages() -> Iterator[dict[str, Any]]:
        yield {"status": "Pulling from library/a", "id": "1"}
        yield {"status": "Already exists", "progressDetail": {}, "id": "base"}
        yield {"status": "Pulling fs layer", "progressDetail": {}, "id": "one"}
        yield downloading("one", 10, 100)
        until(Pulled(10, 100))
        yield downloading("two", 5, 50)
        until(Pulled(15, 150))
        yield {"status": "Download complete", "progressDetail": {}, "id": "two"}
        until(Pulled(60, 150))
        yield {"status": "Extracting", "progressDetail": {"current": 1, "total": 300}, "id": "one"}
        yield downloading("three", 70, 60)
        yield downloading("four", 70, -1)
        until(Pulled(210, 210))
        yield {"status": "Pull complete", "progressDetail": {}, "id": "one"}

    engine.on(*CREATE, Stream(messages()))
    carry_out(puller.pull("a:1", Deadline(60), seen.append))
    assert seen == sorted(seen)


def test_a_thread_that_cannot_start_leaves_nothing_behind(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.on(*CREATE, Stream([]))

    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(CapacityExceededError):
            puller.now("a:1", Deadline(5))
    assert 0 == len(puller)
    puller.now("a:1", Deadline(5))
    with monkeypatch.context() as patch:
        # The thread of all pulls runs by now; the one that reads credentials cannot start.
        patch.setattr(ThreadPoolExecutor, "submit", refused)
        with pytest.raises(CapacityExceededError):
            puller.now("a:2", Deadline(5))
    assert 0 == len(puller)
    puller.now("a:2", Deadline(5))


def stalls(engine: FakeEngine, registry: str, *messages: Any) -> None:
    """The engine sends these messages for pulls from this registry, and nothing more until it is released.

    Pulls from other registries succeed.
    """

    def slowly() -> Iterator[Any]:
        yield from messages
        engine._released.wait()

    def answer(request: Request) -> Hang | Stream:
        if not request.query["fromImage"].startswith(registry):
            return Stream([])
        return Stream(slowly()) if messages else Hang(Stream([]))

    engine.on(*CREATE, answer)
