"""Callers share a pull and its outcome, and a caller that gives up returns at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from container_manager.backend_maintenance import Pulled
from container_manager.deadline import Deadline
from container_manager.engine import images
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
from container_manager.operation import Operation, carry_out
from container_manager.scheduling.bot_operations import BotOperations
from container_manager.scheduling.worker_pools import WorkerPool
from tests.support.fake_engine import Cut, FakeEngine, Hang, Request, Stream, error
from tests.support.waiting import wait_until
from tests.unit.provisioned import BOT
from tests.unit.pulling import CREATE, Puller, making_puller


@pytest.fixture
def puller(engine: FakeEngine, calls: LongCalls) -> Iterator[Puller]:
    yield from making_puller(engine, calls)


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


@pytest.mark.parametrize("way", ["a thread", "the event loop"])
def test_who_waits_long_for_a_pull_adds_one_callback_to_it_and_none_to_the_deadline(
    engine: FakeEngine, puller: Puller, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(images, "PROGRESS_SECONDS", 0.001)
    engine.on(*CREATE, Hang(Stream([])))
    deadline, kept = Deadline(), []

    def look(_: Pulled) -> None:
        if len(kept) < 100:
            (pull,) = puller._pulls.values()
            kept.append((len(pull.future._done_callbacks), len(deadline._callbacks)))
        else:
            engine.release()

    def pulling(_: Deadline) -> Operation[None]:
        return puller.pull("a:1", deadline, look)

    async def main() -> None:
        operations = BotOperations(1)
        await operations.change(WorkerPool.MAINTENANCE, BOT, pulling, deadline)
        operations.close()

    if way == "a thread":
        carry_out(pulling(deadline))
    else:
        asyncio.run(main())
    # On the event loop, the part that looks is a job of its own.
    assert {(1, 0 if way == "a thread" else 1)} == set(kept)
    assert not deadline._callbacks


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
