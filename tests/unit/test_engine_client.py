# ruff: noqa: PLR0917 - fixtures and parameters
"""Calls to an engine that misbehaves: each fault gives one kind of error, and no call is sent too often."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerManagerError,
    EngineAccessDeniedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from tests.support.fake_engine import NO_CONTENT, Cut, FakeEngine, Hang, Json, Raw, error

INSPECT = "/containers/*/json"
Call = Callable[[EngineClient], Any]

# The SDK leaves a socket that could not connect to the garbage collector, which warns about it.
unconnected = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def collected() -> Iterator[None]:
    """The warning is issued during the test that caused it."""
    yield
    gc.collect()


def inspect(client: EngineClient, seconds: float | None = None) -> Any:
    return client.inspect_container("c1", Deadline(seconds))


CHANGES: dict[str, tuple[str, str, Call]] = {
    "create": ("POST", "/containers/create", lambda client: client.create_container("n", {"Image": "a"})),
    "start": ("POST", "/containers/c1/start", lambda client: client.start_container("c1")),
    "remove": ("DELETE", "/containers/c1", lambda client: client.remove_container("c1")),
}
READS: dict[str, tuple[str, str, Call]] = {
    "ping": ("GET", "/_ping", lambda client: client.ping(Deadline())),
    "inspect": ("GET", INSPECT, inspect),
    "list": ("GET", "/containers/json", lambda client: client.list_containers("a=b", Deadline())),
    "network": ("GET", "/networks/n", lambda client: client.inspect_network("n", Deadline())),
    "stat": ("HEAD", "/containers/c1/archive", lambda client: client.stat("c1", "/bin/sh", Deadline())),
}
changes = pytest.mark.parametrize(("method", "path", "call"), CHANGES.values(), ids=CHANGES)
reads = pytest.mark.parametrize(("method", "path", "call"), READS.values(), ids=READS)
calls = pytest.mark.parametrize(
    ("method", "path", "call"), [*READS.values(), *CHANGES.values()], ids=[*READS, *CHANGES]
)


@unconnected
def test_no_socket_at_the_path_is_engine_unavailable(tmp_path: Path, collected: None) -> None:
    endpoint = f"unix://{tmp_path}/no.sock"
    with pytest.raises(EngineUnavailableError, match=f"{endpoint} cannot be reached: No such file or directory"):
        EngineClient(endpoint, timeout_seconds=5).ping(Deadline())


@unconnected
def test_a_refused_connection_is_engine_unavailable(tmp_path: Path, collected: None) -> None:
    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(EngineUnavailableError, match=f"unix://{path} cannot be reached: Connection refused"):
        EngineClient(f"unix://{path}", timeout_seconds=5).ping(Deadline())


@unconnected
@pytest.mark.parametrize("denial", [PermissionError(13, os.strerror(13)), PermissionError(1, os.strerror(1))])
def test_a_socket_that_refuses_us_is_told_apart(
    engine: FakeEngine, client: EngineClient, denial: OSError, monkeypatch: pytest.MonkeyPatch, collected: None
) -> None:
    """The test injects the denial, as root is denied nothing."""

    class DeniedSocket(socket.socket):
        def connect(self, _: Any) -> None:
            raise denial

    monkeypatch.setattr(socket, "socket", DeniedSocket)
    with pytest.raises(EngineAccessDeniedError, match=r"permission denied.*member of the group") as caught:
        client.ping(Deadline())
    assert engine.url in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
@calls
def test_a_proxy_that_refuses_us_is_told_apart(
    engine: FakeEngine, client: EngineClient, method: str, path: str, call: Call, status: int
) -> None:
    engine.on(method, path, error(status, "authorization denied by plugin"))
    with pytest.raises(EngineAccessDeniedError):
        call(client)


@reads
def test_a_hang_ends_at_the_deadline(
    engine: FakeEngine, client: EngineClient, method: str, path: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.on(method, path, Hang())
    monkeypatch.setattr(Deadline, "at_most", lambda *_: 0.2)
    begun = time.monotonic()
    with pytest.raises(EngineTimeoutError, match="did not answer in time"):
        call(client)
    assert time.monotonic() - begun < 3
    assert 1 == len(engine.seen(method, path))


def test_a_hang_ends_at_the_clients_own_time_out_too(engine: FakeEngine) -> None:
    engine.on("POST", "/containers/c1/start", Hang())
    with pytest.raises(EngineTimeoutError):
        EngineClient(engine.url, timeout_seconds=0.2).start_container("c1")
    assert 1 == len(engine.seen("POST", "/containers/c1/start"))


def test_a_hang_while_the_version_is_asked_for_ends_at_the_deadline(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", "/version", Hang())
    begun = time.monotonic()
    with pytest.raises(EngineTimeoutError):
        inspect(client, 0.2)
    assert time.monotonic() - begun < 3


@calls
def test_an_error_answer_keeps_its_status_and_text(
    engine: FakeEngine, client: EngineClient, method: str, path: str, call: Call
) -> None:
    engine.on(method, path, error(500, "the engine's own words"))
    with pytest.raises(EngineRejectedError) as caught:
        call(client)
    assert 500 == caught.value.status
    if method != "HEAD":
        assert "the engine's own words" == caught.value.text
    assert 1 == len(engine.seen(method, path))


def test_an_error_answer_may_be_plain_text(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", INSPECT, Raw(b"404 page\n", 500, {"Content-Type": "text/plain"}))
    with pytest.raises(EngineRejectedError) as caught:
        inspect(client)
    assert (500, "404 page") == (caught.value.status, caught.value.text)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"Id": ', b"\xff\xfe"])
def test_an_answer_that_is_no_json_is_no_usable_answer(engine: FakeEngine, client: EngineClient, body: bytes) -> None:
    engine.on("GET", INSPECT, Raw(body))
    with pytest.raises(EngineUnavailableError, match="no usable answer"):
        inspect(client)


@pytest.mark.parametrize("name", ["inspect", "network", "stat"])
def test_a_missing_object_is_none(engine: FakeEngine, client: EngineClient, name: str) -> None:
    method, path, call = READS[name]
    engine.on(method, path, error(404, "No such thing"))
    assert call(client) is None


@reads
def test_a_read_without_an_answer_is_asked_exactly_twice(
    engine: FakeEngine, client: EngineClient, method: str, path: str, call: Call
) -> None:
    engine.on(method, path, Cut())
    with pytest.raises(EngineUnavailableError):
        call(client)
    assert 2 == len(engine.seen(method, path))


@changes
def test_a_change_without_an_answer_is_sent_exactly_once(
    engine: FakeEngine, client: EngineClient, method: str, path: str, call: Call
) -> None:
    engine.on(method, path, Cut())
    with pytest.raises(EngineUnavailableError):
        call(client)
    assert 1 == len(engine.seen(method, path))


@pytest.mark.parametrize("name", ["start", "remove"])
def test_a_change_on_a_kept_connection_that_dies_is_sent_exactly_once(
    engine: FakeEngine, client: EngineClient, name: str
) -> None:
    method, path, call = CHANGES[name]
    engine.on(method, path, NO_CONTENT, Cut())
    call(client)
    with pytest.raises(EngineUnavailableError):
        call(client)
    assert 2 == len(engine.seen(method, path))


def test_a_read_on_a_stale_connection_succeeds(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("GET", INSPECT, Json({"Id": "c1"}), Cut(), Json({"Id": "c2"}))
    assert {"Id": "c1"} == inspect(client)
    assert {"Id": "c2"} == inspect(client)


def test_calls_go_on_after_the_engine_dropped_all_connections(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("POST", "/containers/c1/start", NO_CONTENT)
    client.start_container("c1")
    engine.drop_connections()
    client.start_container("c1")
    assert 2 == len(engine.seen("POST", "/containers/c1/start"))


def test_a_container_is_removed_by_force_with_its_volumes(engine: FakeEngine, client: EngineClient) -> None:
    engine.on("DELETE", "/containers/c1", NO_CONTENT)
    client.remove_container("c1")
    (request,) = engine.seen("DELETE", "/containers/c1")
    assert ("1", "1") == (request.query["v"], request.query["force"])


@pytest.mark.parametrize("status", [204, 304])
def test_a_container_already_in_the_wanted_state_is_no_error(
    engine: FakeEngine, client: EngineClient, status: int
) -> None:
    engine.on("POST", "/containers/c1/*", Raw(status=status))
    client.start_container("c1")


@unconnected
@pytest.mark.parametrize("docker_host", ["tcp://127.0.0.1:1", "tcp://", "unix:///", "nonsense://"])
def test_an_endpoint_that_leads_nowhere_is_the_domains_error(docker_host: str, collected: None) -> None:
    with pytest.raises(ContainerManagerError) as caught:
        EngineClient(docker_host, timeout_seconds=2).ping(Deadline(2))
    assert "UNAVAILABLE" == caught.value.code
