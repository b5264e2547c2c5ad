"""The observation of calls to the engine: operation, outcome and duration of each."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from container_manager.deadline import Deadline
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.call_observer import observed
from container_manager.engine.client import EngineClient
from container_manager.engine.images import ImagePuller
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineAccessDeniedError, EngineTimeoutError, EngineUnavailableError
from container_manager.operation import carry_out
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json, Stream, error

DOCUMENT = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()
OUTCOMES = {
    EngineRejectedError(404, "none"): "not_found",
    EngineRejectedError(409, "conflict"): "rejected",
    EngineTimeoutError("late"): "timeout",
    EngineUnavailableError("away"): "unavailable",
    EngineAccessDeniedError("no"): "denied",
    asyncio.CancelledError(): "cancelled",
    GeneratorExit(): "cancelled",
    RuntimeError("a bug"): "error",
}


class Told(list[tuple[str, str]]):
    """The observed operations and outcomes."""

    def __call__(self, operation: str, outcome: str, begun_ns: int, seconds: float) -> None:
        assert begun_ns > 10**18
        assert seconds >= 0
        self.append((operation, outcome))


@pytest.mark.parametrize(("raised", "outcome"), OUTCOMES.items(), ids=lambda each: repr(each)[:30])
def test_each_way_to_end_is_an_outcome_that_is_documented(raised: BaseException, outcome: str) -> None:
    told = Told()
    with pytest.raises(type(raised)), observed(told, "ping"):
        raise raised
    assert [("ping", outcome)] == told
    (row,) = re.findall(r"^\| `container_manager_engine_call_duration_seconds` .*$", DOCUMENT, re.MULTILINE)
    assert f"`{outcome}`" in row


def test_the_synchronous_clients_operations_are_told(engine: FakeEngine) -> None:
    told = Told()
    client = EngineClient(engine.url, timeout_seconds=10, observer=told)
    engine.on("GET", "/containers/json", Json([]))
    engine.on("GET", "/containers/c1/json", Json({"Id": "c1"}))
    engine.on("POST", "/containers/create", Json({"Id": "c1"}, 201))
    engine.on("POST", "/containers/c1/start", NO_CONTENT)
    engine.on("DELETE", "/containers/c1", error(409, "removal in progress"))
    client.ping(Deadline())
    client.list_containers("l", Deadline())
    assert client.inspect_container("c1", Deadline())
    assert client.inspect_container("none", Deadline()) is None
    client.create_container("n", {})
    client.start_container("c1")
    with pytest.raises(EngineRejectedError):
        client.remove_container("c1")
    client.close()
    assert [
        ("ping", "ok"),
        ("list_containers", "ok"),
        ("inspect_container", "ok"),
        ("inspect_container", "not_found"),
        ("create_container", "ok"),
        ("start_container", "ok"),
        ("remove_container", "rejected"),
    ] == told


def test_long_calls_are_told(engine: FakeEngine) -> None:
    told = Told()
    client = EngineClient(engine.url, timeout_seconds=10)
    calls = LongCalls(engine.url, timeout_seconds=10, observer=told)
    engine.on("POST", "/containers/c1/*", NO_CONTENT)
    engine.on("POST", "/images/create", Stream([{"status": "done"}]))
    calls.stop_container("c1", 0).result(60)
    calls.restart_container("c1", 0).result(60)
    calls.kill_container("c1").result(60)
    carry_out(ImagePuller(calls).pull("image", Deadline()))
    with pytest.raises(EngineRejectedError):
        calls.stop_container("none", 0).result(60)
    calls.close()
    client.close()
    assert [
        ("stop_container", "ok"),
        ("restart_container", "ok"),
        ("kill_container", "ok"),
        ("pull_image", "ok"),
        ("stop_container", "not_found"),
    ] == told


def test_a_read_that_is_asked_twice_is_told_twice(engine: FakeEngine) -> None:
    told = Told()
    client = EngineClient(engine.url, timeout_seconds=10, observer=told)
    engine.on("GET", "/containers/c1/json", Cut(), Json({"Id": "c1"}))
    assert client.inspect_container("c1", Deadline())
    client.close()
    assert [("inspect_container", "unavailable"), ("inspect_container", "ok")] == told


def test_the_event_loops_calls_and_streams_are_told(engine: FakeEngine) -> None:
    told = Told()
    engine.on("GET", "/containers/json", Json([]))
    engine.on("GET", "/containers/c1/stats", Hang())
    engine.on("GET", "/containers/c1/logs", Stream([{}]))
    engine.on("GET", "/events", Stream([{}]))

    async def run() -> None:
        client = AsyncEngineClient(engine.url, timeout_seconds=10, observer=told)
        await client.get_json("/containers/json")
        with pytest.raises(EngineTimeoutError):
            await client.get_json("/containers/c1/stats", timeout_seconds=0.05)
        with pytest.raises(EngineRejectedError):
            await client.get_json("/containers/c1/json")
        for path in ("/containers/c1/logs", "/events"):
            async with client.stream(path):
                # Observed at its start: it may never end.
                assert path.rpartition("/")[2] in told[-1][0]
        await client.close()

    asyncio.run(run())
    assert [
        ("list_containers", "ok"),
        ("stats", "timeout"),
        ("inspect_container", "not_found"),
        ("stream_logs", "ok"),
        ("stream_events", "ok"),
    ] == told
