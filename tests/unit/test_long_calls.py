"""Stops, restarts and kills: futures that cost no thread each, and the same errors as of other calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import closing
from typing import Any

import pytest

from container_manager.engine.long_calls import LongCalls
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    CapacityExceededError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    EngineUnavailableError,
    ShuttingDownError,
)
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json, Raw, error
from tests.support.threads import started_since
from tests.support.waiting import wait_until

STOP, RESTART, KILL = (("POST", f"/containers/c1/{verb}") for verb in ("stop", "restart", "kill"))
UNPAUSE = ("POST", "/containers/c1/unpause")
STARTED = "2026-11-29T06:00:00.123456789Z"


Call = Callable[[LongCalls], Future[None]]
both = pytest.mark.parametrize(
    ("path", "call"),
    [(STOP, lambda calls: calls.stop_container("c1", 1)), (RESTART, lambda calls: calls.restart_container("c1", 1))],
    ids=["stop", "restart"],
)


@both
@pytest.mark.parametrize("status", [204, 304])
def test_a_container_already_in_the_wanted_state_is_no_error(
    engine: FakeEngine, calls: LongCalls, path: Any, call: Call, status: int
) -> None:
    engine.on(*path, Raw(status=status))
    assert call(calls).result(60) is None
    assert ["1"] == [request.query["t"] for request in engine.seen(*path)]


@both
def test_an_error_answer_keeps_its_status_and_text(engine: FakeEngine, calls: LongCalls, path: Any, call: Call) -> None:
    engine.on(*path, error(500, "the engine's own words"), error(403, "denied by a plugin"))
    with pytest.raises(EngineRejectedError) as caught:
        call(calls).result(60)
    assert (500, "the engine's own words") == (caught.value.status, caught.value.text)
    with pytest.raises(EngineAccessDeniedError):
        call(calls).result(60)


@both
def test_a_call_without_an_answer_is_sent_exactly_once(
    engine: FakeEngine, calls: LongCalls, path: Any, call: Call
) -> None:
    engine.on(*path, NO_CONTENT, Cut())
    call(calls).result(60)
    with pytest.raises(EngineUnavailableError):
        call(calls).result(60)
    assert 2 == len(engine.seen(*path))


@both
def test_a_call_after_the_engine_dropped_all_connections_succeeds(
    engine: FakeEngine, calls: LongCalls, path: Any, call: Call
) -> None:
    engine.on(*path, NO_CONTENT)
    call(calls).result(60)
    # None is kept, on which the next request could be lost.
    wait_until(lambda: not engine.open, "the connection ends")
    engine.drop_connections()
    call(calls).result(60)
    assert 2 == len(engine.seen(*path))


@both
def test_a_grace_period_comes_on_top_of_the_time_out(engine: FakeEngine, path: Any, call: Call) -> None:
    engine.on(*path, Hang(NO_CONTENT))
    calls = LongCalls(engine.url, timeout_seconds=0.4)
    stopping = call(calls)
    engine.await_request(*path)
    with pytest.raises(TimeoutError):
        stopping.result(0.8)
    engine.release()
    assert stopping.result(60) is None
    calls.close()


def test_a_hang_ends_with_the_time_out(engine: FakeEngine) -> None:
    engine.on(*STOP, Hang())
    calls = LongCalls(engine.url, timeout_seconds=0.1)
    with pytest.raises(EngineTimeoutError):
        calls.stop_container("c1", 0).result(60)
    calls.close()


def test_a_stop_that_the_engine_refuses_to_a_paused_container_lets_it_go_on_and_stops_it(
    engine: FakeEngine, calls: LongCalls
) -> None:
    refused = error(500, "container c1 is running or paused, refusing to clean up: container state improper")
    engine.on(*STOP, refused, NO_CONTENT)
    engine.on(*UNPAUSE, NO_CONTENT)
    calls.stop_container("c1", 1).result(60)
    assert [STOP[1], UNPAUSE[1], STOP[1]] == [request.path for request in engine.seen("POST", "*")]
    # Once: it has been paused again, or runs.
    engine.on(*STOP, refused)
    with pytest.raises(EngineRejectedError, match="refusing to clean up"):
        calls.stop_container("c1", 1).result(60)
    assert 4 == len(engine.seen(*STOP))


@pytest.mark.parametrize("answer", [NO_CONTENT, error(404, "No such container"), error(409, "is not running")])
def test_a_kill_of_what_has_ended_has_no_effect(engine: FakeEngine, calls: LongCalls, answer: Raw | Json) -> None:
    engine.on(*KILL, answer)
    assert calls.kill_container("c1").result(60) is None
    assert 1 == len(engine.seen(*KILL))


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_a_kill_that_fails_or_cannot_be_checked_is_told(engine: FakeEngine, calls: LongCalls, status: int) -> None:
    engine.on(*KILL, error(status, "the engine's own words"))
    engine.on("GET", "/containers/c1/json", error(status, "the engine's own words"))
    expected = type(None) if status in (404, 409) else EngineRejectedError
    for start_time in (None, 1):
        assert expected is type(calls.kill_container("c1", start_time).exception(60))


@pytest.mark.parametrize(("started", "kills"), [(STARTED, 1), ("2026-11-29T06:00:00.123456790Z", 0)])
def test_a_kill_of_one_process_spares_the_next_one_of_the_container(
    engine: FakeEngine, calls: LongCalls, started: str, kills: int
) -> None:
    engine.on("GET", "/containers/c1/json", Json({"State": {"StartedAt": started}}))
    engine.on(*KILL, NO_CONTENT)
    calls.kill_container("c1", time_ns(STARTED)).result(60)
    assert kills == len(engine.seen(*KILL))


for_a_day = pytest.mark.parametrize(
    ("path", "call"),
    [
        (STOP, lambda calls: calls.stop_container("c1", 86_400)),
        (RESTART, lambda calls: calls.restart_container("c1", 86_400)),
    ],
    ids=["stop", "restart"],
)


@for_a_day
@pytest.mark.parametrize("killed", [NO_CONTENT, error(404, "No such container"), error(409, "is not running")])
def test_once_its_container_is_killed_a_call_has_only_the_time_out(
    engine: FakeEngine, path: Any, call: Call, killed: Raw | Json
) -> None:
    engine.on(*path, Hang())
    engine.on(*KILL, killed)
    with closing(LongCalls(engine.url, timeout_seconds=1)) as calls:
        ending = call(calls)
        engine.await_request(*path)
        calls.kill_container("c1").result(60)
        with pytest.raises(EngineTimeoutError):
            ending.result(20)


@for_a_day
def test_the_answer_after_a_kill_counts(engine: FakeEngine, calls: LongCalls, path: Any, call: Call) -> None:
    engine.on(*path, Hang(NO_CONTENT))
    engine.on(*KILL, NO_CONTENT)
    ending = call(calls)
    engine.await_request(*path)
    calls.kill_container("c1").result(60)
    assert not ending.done()
    engine.release()
    assert ending.result(60) is None
    # It is under way no more.
    calls.kill_container("c1").result(60)


@for_a_day
def test_a_kill_that_fails_or_is_of_another_container_shortens_no_call(
    engine: FakeEngine, path: Any, call: Call
) -> None:
    engine.on(*path, Hang(NO_CONTENT))
    engine.on(*KILL, error(500, "boom"))
    engine.on("POST", "/containers/c2/kill", NO_CONTENT)
    with closing(LongCalls(engine.url, timeout_seconds=0.4)) as calls:
        ending = call(calls)
        engine.await_request(*path)
        assert EngineRejectedError is type(calls.kill_container("c1").exception(60))
        calls.kill_container("c2").result(60)
        with pytest.raises(TimeoutError):
            ending.result(0.8)
        engine.release()
        assert ending.result(60) is None


def test_two_hundred_long_calls_have_one_thread(engine: FakeEngine, calls: LongCalls) -> None:
    engine.on("POST", "/containers/*/stop", Hang(NO_CONTENT))
    before = set(threading.enumerate())
    stopping = [calls.stop_container(f"c{number}", 86_400) for number in range(200)]
    engine.await_request("POST", "/containers/*/stop", 200)
    assert ["long engine calls"] == started_since(before)
    engine.release()
    assert [None] * 200 == [each.result(60) for each in stopping]


def test_a_thread_that_cannot_start_is_told_and_tried_again(
    engine: FakeEngine, calls: LongCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.on(*STOP, NO_CONTENT)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(CapacityExceededError, match="no thread"):
            calls.stop_container("c1", 0)
    assert [] == engine.seen(*STOP)
    calls.stop_container("c1", 0).result(60)


def test_close_ends_calls_under_way_and_their_thread(engine: FakeEngine) -> None:
    engine.on(*STOP, Hang())
    calls = LongCalls(engine.url, timeout_seconds=60)
    before = set(threading.enumerate())
    stopping = calls.stop_container("c1", 86_400)
    engine.await_request(*STOP)
    calls.close()
    assert EngineUnavailableError is type(stopping.exception(60))
    assert [] == started_since(before)


def test_after_its_end_no_call_begins_and_no_thread_starts(engine: FakeEngine) -> None:
    calls = LongCalls(engine.url, timeout_seconds=5)
    before = set(threading.enumerate())
    engine.on(*STOP, NO_CONTENT)
    calls.stop_container("c1", 1).result(60)
    calls.close()
    with pytest.raises(ShuttingDownError):
        calls.stop_container("c1", 1)
    assert 1 == len(engine.seen(*STOP))
    assert [] == started_since(before)


def test_a_call_that_begins_while_the_service_ends_has_an_outcome(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.on(*KILL, NO_CONTENT)
    calls = LongCalls(engine.url, timeout_seconds=5)
    closing = threading.Thread(target=calls.close)
    submit = asyncio.run_coroutine_threadsafe

    def submitted_late(call: Any, loop: asyncio.AbstractEventLoop) -> Future[Any]:
        if not closing.ident:
            closing.start()
            # It waits for this call, or has ended the loop.
            closing.join(0.5)
        return submit(call, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", submitted_late)
    begun = calls.kill_container("c1")
    closing.join()
    assert begun in wait([begun], 60).done
