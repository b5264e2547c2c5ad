"""The log tells reasons and ids: no text of a caller, and none of the engine, which repeats callers' texts."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
from tests.fuzz.conversations import Call, conversation, encoded
from tests.support.fake_engine import FakeEngine, Json, Raw, Stream, error
from tests.support.serving import ServerProcess, server_process
from tests.support.waiting import wait_until

MARKER = "m4rk3r"
FORGED = f"\n2026-01-01T00:00:00Z [error    ] {MARKER}"
BOT_ID = str(uuid.uuid4())
CONTAINER_ID = "c" * 64
LABELS = {"botmaker.managed": "true", "botmaker.bot-id": BOT_ID, "mine": FORGED}
ROW = {
    "Id": CONTAINER_ID,
    "Names": [f"/botmaker-{BOT_ID}"],
    "Image": MARKER,
    "ImageID": MARKER,
    "State": "running",
    "Status": FORGED,
    "Created": 1,
    "Ports": [],
    "Labels": LABELS,
}
WILD_EVENTS = [
    MARKER,
    {MARKER: FORGED},
    {"Type": FORGED, "Action": "start", "Actor": {"ID": MARKER}},
    {"Type": "container", "Action": "start", "Actor": MARKER},
    {"Type": "container", "Action": FORGED, "Actor": {"ID": 7, "Attributes": LABELS}},
]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """It answers pings, and everything else with an error that has the marker in it."""
    with FakeEngine() as engine:
        for method in ("GET", "POST", "PUT", "DELETE"):
            engine.on(method, "*", error(500, FORGED))
        engine.on("GET", "/_ping", Raw(b"OK"))
        engine.on("HEAD", "/_ping", Raw(b"OK"))
        engine.on("GET", "/version", Json({"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Version": "20.10"}))
        yield engine


@pytest.fixture(params=["text", "json"])
def server(request: pytest.FixtureRequest, engine: FakeEngine, session_dir: Path, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "secrets" / BOT_ID).mkdir(parents=True, mode=0o711)
    arguments = ["--listen", f"unix://{session_dir}/texts/s.sock", "--secrets-root", str(tmp_path / "secrets")]
    arguments += ["--docker-host", engine.url, "--log-format", request.param, "--log-level", "debug"]
    with server_process([*arguments, "--drain-seconds", "1"], tmp_path / "log") as process:
        yield process


def logged(server: ServerProcess, *lines: str) -> str:
    """The log, once it has these lines."""
    for line in lines:
        wait_until(lambda line=line: line in server.log_text(), line)
    return server.log_text()


def call_everything(server: ServerProcess) -> None:
    """Every call that asks the engine, with the marker wherever a text may be."""
    bot, config = {"bot_id": BOT_ID}, pb.ContainerConfig(image="image", command=[FORGED], labels={"mine": FORGED})
    with connect(server.line.split()[-1]) as channel:
        manager, observer = ContainerManagerStub(channel), ContainerObserverStub(channel)
        action = maintainer_pb.RunActionRequest(**bot, action=FORGED, arguments=[FORGED])
        calls: list[Callable[[], Any]] = [
            lambda: manager.CreateContainer(pb.CreateContainerRequest(**bot, config=config), timeout=2),
            lambda: manager.CreateContainer(pb.CreateContainerRequest(bot_id=FORGED, request_id=FORGED), timeout=2),
            lambda: manager.StartContainer(pb.StartContainerRequest(**bot), timeout=2),
            lambda: manager.RestartContainer(pb.RestartContainerRequest(**bot), timeout=2),
            lambda: manager.StopContainer(pb.StopContainerRequest(**bot), timeout=2),
            lambda: manager.RemoveContainer(pb.RemoveContainerRequest(**bot), timeout=2),
            lambda: manager.GetContainerStatus(pb.GetContainerStatusRequest(**bot), timeout=2),
            lambda: manager.ListManagedContainers(pb.ListManagedContainersRequest(labels={"mine": FORGED}), timeout=2),
            lambda: observer.GetContainerConfig(observer_pb.GetContainerConfigRequest(**bot), timeout=2),
            lambda: observer.GetStats(observer_pb.GetStatsRequest(bot_ids=[BOT_ID]), timeout=2),
            lambda: list(observer.StreamLogs(observer_pb.StreamLogsRequest(**bot), timeout=2)),
            lambda: list(ContainerMaintainerStub(channel).RunAction(action, timeout=2)),
        ]
        with ThreadPoolExecutor(len(calls)) as pool:
            for ended in [pool.submit(call) for call in calls]:
                assert isinstance(ended.exception(), grpc.RpcError | None)


def test_an_engine_that_fails_everything_writes_nothing_into_the_log(server: ServerProcess, engine: FakeEngine) -> None:
    call_everything(server)
    engine.on("GET", "/_ping", error(500, FORGED))
    engine.on("HEAD", "/_ping", error(500, FORGED))
    text = logged(server, "cannot be followed", "not serving", "RemoveContainer")
    assert MARKER not in text


def test_wild_events_and_containers_write_nothing_into_the_log(server: ServerProcess, engine: FakeEngine) -> None:
    engine.on("GET", "/containers/json", Json([ROW]))
    engine.on("GET", "/events", lambda _: Stream(_and_wait(WILD_EVENTS, engine)))
    logged(server, "is not understood and skipped")
    call_everything(server)
    text = logged(server, "cannot be inspected", "RemoveContainer")
    assert MARKER not in text


def test_headers_and_paths_that_are_not_utf_8_write_one_line_a_minute_without_their_texts(
    server: ServerProcess,
) -> None:
    text = MARKER.encode() + b"\xff"
    with_header = Call(b"/botmaker.container.v1.ContainerManager/StartContainer", b"", ((b"x-mine", text),))
    with ExitStack() as stack:
        for number, call in enumerate([with_header, Call(b"/" + text, b"")] * 10):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(server.line.split()[-1].removeprefix("unix://"))
            connection.sendall(encoded(conversation([call] * 20)))
            if number >= 10:
                # Its sender does not wait for the answers. The service may never see these calls.
                connection.close()
        logged(server, "headers that are not UTF-8")
        with connect(server.line.split()[-1]) as channel, pytest.raises(grpc.RpcError):
            ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id=BOT_ID), timeout=2)
        server.terminate()
        assert 0 == server.wait()
    log = server.log_text()
    first, rest = [int(line[1]) for line in re.finditer(r"headers\W+(\d+)", log)]
    assert first == 1
    assert rest > 1
    assert MARKER not in log
    assert "Traceback" not in log


def _and_wait(messages: list[Any], engine: FakeEngine) -> Iterator[Any]:
    yield from messages
    engine._released.wait()
