"""The engine client's connections: versions, proxies, streams, and many calls at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from container_manager.backends.docker.docker_service import DockerService
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineUnavailableError
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json, Request, error
from tests.support.waiting import wait_until

INSPECT = "/containers/*/json"


def inspect(client: EngineClient, seconds: float | None = None) -> Any:
    return client.inspect_container("c1", Deadline(seconds))


def test_the_version_is_asked_for_once(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", INSPECT, Json({}))
    inspect(client)
    inspect(client)
    assert ["1.41"] * 2 == [request.version for request in engine.seen("GET", INSPECT)]
    assert 1 == len(engine.seen("GET", "/version"))


def test_the_version_is_asked_for_anew_after_the_engine_was_out_of_reach(
    engine: FakeEngine, client: EngineClient
) -> None:
    engine.on("GET", INSPECT, Json({}), Cut(), Json({}))
    inspect(client)
    engine.api_version = "1.51"
    inspect(client)
    assert ["1.41", "1.41", "1.51"] == [request.version for request in engine.seen("GET", INSPECT)]


def test_the_version_is_asked_for_anew_after_another_engine_has_refused_it(
    engine: FakeEngine, client: EngineClient
) -> None:
    """Socket activation hides that the engine was away: the next one just refuses an old version."""
    engine.on("GET", INSPECT, Json({}), error(400, "client version 1.41 is too old"), Json({}))
    inspect(client)
    engine.api_version = "1.51"
    with pytest.raises(EngineRejectedError):
        inspect(client)
    inspect(client)
    assert ["1.41", "1.41", "1.51"] == [request.version for request in engine.seen("GET", INSPECT)]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_no_proxy_of_the_environment_leads_to_the_engine(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeEngine(tcp=True) as proxy, FakeEngine(tcp=True) as engine:
        monkeypatch.setenv(variable, proxy.url.replace("tcp", "http"))
        engine.on("GET", INSPECT, Json({}))
        client = EngineClient(engine.url, timeout_seconds=5)
        inspect(client)
        client.close()
        assert [] == proxy.requests
        assert 2 == len(engine.requests)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The engine that the docker command would use: every variable and the current context name it."""
    with FakeEngine() as other:
        meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"other").hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({"Name": "other", "Endpoints": {"docker": {"Host": other.url}}}))
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": "other"}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.setenv("DOCKER_CONTEXT", "other")
        monkeypatch.setenv("DOCKER_HOST", other.url)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        yield other


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_no_context_or_variable_of_docker_leads_to_another_engine(
    elsewhere: FakeEngine, secrets_root: RootDirectory, *, tcp: bool
) -> None:
    """``from_env`` of the SDK would use them (docker/docker-py#3401)."""

    async def get(url: str) -> Any:
        client = AsyncEngineClient(url, timeout_seconds=30)
        try:
            return await client.get_json("/containers/c1/json")
        finally:
            await client.close()

    with FakeEngine(tcp=tcp) as engine:
        engine.on("GET", "/containers/json", Json([]))
        engine.on("GET", INSPECT, Json({"Id": "c1"}))
        service = DockerService(BackendConfig(secrets_root=secrets_root, docker_host=engine.url))
        assert [] == service.list_managed_containers()
        service.close()
        assert {"Id": "c1"} == asyncio.run(get(engine.url))
        assert [] == elsewhere.requests


def test_calls_at_once_never_share_a_connection(engine: FakeEngine, client: EngineClient) -> None:
    together = threading.Barrier(8)

    def answer(request: Request) -> Json:
        together.wait(60)
        return Json({"connection": request.connection})

    engine.on("GET", INSPECT, answer)
    with ThreadPoolExecutor(8) as pool:
        first = {found["connection"] for found in pool.map(lambda _: inspect(client), range(8))}
        second = {found["connection"] for found in pool.map(lambda _: inspect(client), range(8))}
    assert 8 == len(first)
    assert first == second


def test_many_calls_leave_no_more_connections_than_there_were_at_once(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", INSPECT, Json({}))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: inspect(client), range(640)))
    wait_until(lambda: engine.open <= 16, "one kept connection per thread is open at most")


def test_a_client_is_borrowed_by_one_call_only(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("POST", "/containers/c1/start", Hang(NO_CONTENT))
    engine.on("GET", INSPECT, Json({}))
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(client.start_container, "c1")
        engine.await_request("POST", "/containers/c1/start")
        inspect(client, 2)
        engine.release()
        starting.result(5)


def test_calls_one_after_another_leave_two_connections_open_at_most(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("POST", "/containers/*/start", NO_CONTENT)
    for number in range(10):
        client.start_container(f"c{number}")
    wait_until(lambda: engine.open <= 2, "those of earlier calls are closed")


def test_idle_connections_end_by_themselves_within_15_s_while_the_engine_answers_nothing(engine: FakeEngine) -> None:
    """Those of both clients. A call that hangs keeps its own."""
    together = threading.Barrier(16)

    def answer(_: Request) -> Json:
        together.wait(60)
        return Json({})

    async def burst(pool: ThreadPoolExecutor, client: EngineClient, looped: AsyncEngineClient) -> None:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        in_threads = [loop.run_in_executor(pool, inspect, client) for _ in range(8)]
        await asyncio.gather(*in_threads, *(looped.get_json("/containers/c1/json") for _ in range(8)))
        engine.on("GET", INSPECT, Hang())
        hanging = loop.run_in_executor(pool, inspect, client)
        await asyncio.to_thread(engine.await_request, "GET", INSPECT, 17)
        await asyncio.to_thread(wait_until, lambda: engine.open < 16, "some are closed", 15)
        assert time.monotonic() > began + 4, "they are kept for the next calls"
        await asyncio.to_thread(wait_until, lambda: engine.open == 1, "only the one of the call that hangs is left", 15)
        assert not hanging.done()
        engine.release()
        with pytest.raises(EngineUnavailableError):
            await hanging
        await looped.close()

    engine.on("GET", INSPECT, answer)
    client = EngineClient(engine.url, timeout_seconds=60)
    looped = AsyncEngineClient(engine.url, timeout_seconds=60)
    with ThreadPoolExecutor(8) as pool:
        asyncio.run(burst(pool, client, looped))
    client.close()


class _EmptiedMeanwhile(deque):  # type: ignore[type-arg]
    """Shows an idle connection that it no longer has: another thread was faster."""

    def __getitem__(self, index: Any) -> Any:
        return (0.0, None)


def test_threads_that_lose_the_engine_together_do_not_trip_over_each_other(
    engine: FakeEngine, client: EngineClient
) -> None:
    engine.on("POST", "/containers/c1/start", Cut())
    client._idle = _EmptiedMeanwhile()
    with pytest.raises(EngineUnavailableError):
        client.start_container("c1")
