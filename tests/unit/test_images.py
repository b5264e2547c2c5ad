"""Callers share a pull, and a caller that gives up returns at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.images import ImagePuller
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
from tests.support.fake_engine import Cut, FakeEngine, Hang, Request, Stream, error

CREATE = ("POST", "/images/create")


@pytest.fixture
def puller(engine: FakeEngine) -> Iterator[ImagePuller]:
    """Asserts that every pull has ended after the test."""
    client = EngineClient(engine.url, timeout_seconds=5)
    yield ImagePuller(client)
    engine.release()
    for thread in threading.enumerate():
        if thread.name.startswith("pull "):
            thread.join(60)
    client.close()


def test_a_pull_returns_when_its_stream_has_ended_well(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, Stream([{"status": "Pulling"}, {"status": "Downloaded"}]))
    puller.pull("a:1", Deadline(5))
    assert 1 == len(engine.seen(*CREATE))


def test_all_who_wait_for_an_image_share_one_pull(engine: FakeEngine, puller: ImagePuller) -> None:
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
        pulls = [pool.submit(puller.pull, "a:1", Waiter(60)) for _ in range(8)]
        for _ in pulls:
            assert waiting.acquire(timeout=60)
        hung.set()
        assert [None] * 8 == [pull.result(60) for pull in pulls]
    assert 1 == len(engine.seen(*CREATE))


def test_different_images_are_pulled_side_by_side(engine: FakeEngine, puller: ImagePuller) -> None:
    together = threading.Barrier(2)

    def answer(_: Request) -> Stream:
        together.wait(60)
        return Stream([])

    engine.on(*CREATE, answer)
    with ThreadPoolExecutor(2) as pool:
        for pull in [pool.submit(puller.pull, reference, Deadline(60)) for reference in ("a:1", "a:2")]:
            pull.result(60)
    assert {"1", "2"} == {request.query["tag"] for request in engine.seen(*CREATE)}


def test_cancel_frees_the_waiter_at_once_while_the_pull_hangs(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, Hang(Stream([])))
    deadline = Deadline()
    with ThreadPoolExecutor() as pool:
        pull = pool.submit(puller.pull, "a:1", deadline)
        engine.await_request(*CREATE)
        assert not pull.done()
        deadline.cancel()
        with pytest.raises(OperationCancelledError):
            pull.result(60)


def test_a_cancelled_waiter_leaves_the_pull_to_the_others(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, Hang(Stream([])))
    gone = Deadline()
    with ThreadPoolExecutor() as pool:
        staying = pool.submit(puller.pull, "a:1", Deadline(60))
        engine.await_request(*CREATE)
        leaving = pool.submit(puller.pull, "a:1", gone)
        gone.cancel()
        with pytest.raises(OperationCancelledError):
            leaving.result(60)
        engine.release()
        assert staying.result(60) is None
    assert 1 == len(engine.seen(*CREATE))


def test_the_deadline_frees_the_waiter_while_the_pull_hangs(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, Hang())
    with pytest.raises(EngineTimeoutError):
        puller.pull("a:1", Deadline(0.1))


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
    engine: FakeEngine, puller: ImagePuller, answer: Stream, cls: type[ContainerManagerError], text: str
) -> None:
    engine.on(*CREATE, answer)
    with pytest.raises(cls, match=text) as caught:
        puller.pull("a:1", Deadline(5))
    assert cls is type(caught.value)


def test_a_failure_reaches_all_who_wait(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, Hang(error(404, "manifest unknown")))
    with ThreadPoolExecutor(4) as pool:
        pulls = [pool.submit(puller.pull, "a:1", Deadline(60)) for _ in range(4)]
        engine.await_request(*CREATE)
        engine.release()
        assert [ImageNotFoundError] * 4 == [type(pull.exception(10)) for pull in pulls]


def test_the_next_pull_after_a_failure_is_a_new_one(engine: FakeEngine, puller: ImagePuller) -> None:
    engine.on(*CREATE, error(404, "manifest unknown"), Stream([]))
    with pytest.raises(ImageNotFoundError):
        puller.pull("a:1", Deadline(5))
    puller.pull("a:1", Deadline(5))
    puller.pull("a:1", Deadline(5))
    assert 3 == len(engine.seen(*CREATE))
