"""The client against the real server: what its channels add to the stubs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.errors import CommandNotFoundError, EngineUnavailableError, StartupError
from container_manager_client import connect, connect_aio, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import FakeEngine
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.serving import server_process


@pytest.mark.usefixtures("without_notices")
def test_unavailable_is_retried_for_a_status_and_hidden_from_the_caller(
    target: str, memory: MemoryBackend, bot_id: str
) -> None:
    memory.add(bot_id)
    memory.script("get_container_status", EngineUnavailableError("first"), EngineUnavailableError("second"), None)
    with connect(target) as channel:
        assert Calls(ContainerManagerStub(channel)).status(bot_id) is not None
    assert 3 == len(memory.seen("get_container_status"))


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_unavailable_is_never_retried_for_start_and_restart(
    target: str, memory: MemoryBackend, bot_id: str, verb: str
) -> None:
    memory.script(f"{verb}_container", EngineUnavailableError("the engine fails"))
    with connect(target) as channel, fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        getattr(Calls(ContainerManagerStub(channel)), verb)(bot_id)
    assert 1 == len(memory.seen())


def test_a_failed_start_reaches_the_backend_once(target: str, memory: MemoryBackend, bot_id: str) -> None:
    memory.script("start_container", CommandNotFoundError('exec: "x": executable file not found in $PATH'))
    with connect(target) as channel, fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"):
        Calls(ContainerManagerStub(channel)).start(bot_id)
    assert 1 == len(memory.seen())


def test_every_create_carries_a_request_id_of_its_own_unless_given(
    target: str, memory: MemoryBackend, bots: MemoryBots
) -> None:
    with connect(target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        for request_id in ("", "", "mine"):
            calls.create(bots.new(), request_id=request_id)
    sent = [container.request_id for container in memory.containers.values()]
    assert sent[2] == "mine"
    assert "" not in sent
    assert len(set(sent)) == 3


def test_no_proxy_of_the_environment_is_used(serve_on: ServeOn, bot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with serve_on("tcp://127.0.0.1:0", insecure_no_auth=True) as addresses:
        # A plain channel does take the proxy, so the test can fail.
        with grpc.insecure_channel(addresses[0].removeprefix("tcp://")) as plain, pytest.raises(grpc.RpcError):
            ContainerManagerStub(plain).GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=2)
        with connect(addresses[0]) as channel:
            assert Calls(ContainerManagerStub(channel)).status(bot_id) is None


@pytest.mark.parametrize("name", ["with space", "50%41", "a#b", "a?b", "é"])
def test_a_socket_is_served_and_found_whatever_its_path(
    serve_on: ServeOn, session_dir: Path, bot_id: str, name: str
) -> None:
    target = f"unix://{session_dir}/{name}/s.sock"
    with serve_on(target):
        assert Path(target.removeprefix("unix://")).is_socket()
        with connect(target) as channel:
            assert Calls(ContainerManagerStub(channel)).status(bot_id) is None


def test_a_token_is_never_sent_to_another_machine() -> None:
    for make in (connect, connect_aio):
        with pytest.raises(ValueError, match="plain text"):
            make("tcp://192.0.2.1:50051", token="secret-token")


def test_the_aio_channel_gives_the_same_answers_and_errors(target: str, bot_id: str) -> None:
    async def use() -> pb.GetContainerStatusResponse:
        async with connect_aio(target) as channel:
            stub = ContainerManagerStub(channel)
            response = await stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id))
            info = error_info(caught.value)
            assert (info.code.name, info.reason) == ("NOT_FOUND", "CONTAINER_NOT_FOUND")
            assert info.metadata == {"bot_id": bot_id}
            return response

    assert pb.GetContainerStatusResponse() == asyncio.run(use())


def test_without_a_server_the_error_is_unavailable_and_without_a_reason(session_dir: Path, bot_id: str) -> None:
    with connect(f"unix://{session_dir}/nobody.sock") as channel, fails_with("UNAVAILABLE", ""):
        ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id=bot_id))


def test_a_server_that_comes_later_is_found_by_the_same_channel(
    serve_on: ServeOn, session_dir: Path, bot_id: str
) -> None:
    path = f"unix://{session_dir}/later/s.sock"
    with connect(path) as channel:
        stub = ContainerManagerStub(channel)
        with fails_with("UNAVAILABLE", ""):
            stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id))
        for _ in range(2):
            with serve_on(path):
                assert Calls(stub).status(bot_id) is None


WAITING = {"wait_for_ready": True, "timeout": 60}
KINDS: dict[str, Callable[[grpc.Channel], Any]] = {
    "unary-unary": lambda channel: ContainerManagerStub(channel).StartContainer(
        pb.StartContainerRequest(bot_id="no bot"), **WAITING
    ),
    "unary-stream": lambda channel: list(
        ContainerObserverStub(channel).StreamLogs(observer_pb.StreamLogsRequest(bot_id="no bot"), **WAITING)
    ),
    "stream-stream": lambda channel: list(
        reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), **WAITING
        )
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_to_wait_for_the_server_waits(serve_on: ServeOn, session_dir: Path, kind: str) -> None:
    path = f"unix://{session_dir}/wait/s.sock"
    with connect(path) as channel, ThreadPoolExecutor(1) as pool:
        call = pool.submit(KINDS[kind], channel)
        time.sleep(0.5)
        with serve_on(path):
            error = call.exception(60)
    # The server's own answer.
    assert error is None or (isinstance(error, grpc.Call) and grpc.StatusCode.INVALID_ARGUMENT is error.code())


def test_a_status_that_is_asked_for_while_the_service_restarts_is_answered(
    fake: FakeEngine, serve_on: ServeOn, bot_id: str, session_dir: Path, tmp_path: Path
) -> None:
    """It is away for about 3 s from then on."""
    socket, path = session_dir / "restart/s.sock", f"unix://{session_dir}/restart/s.sock"
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = ["--listen", path, "--docker-host", fake.url, "--secrets-root", str(tmp_path / "secrets")]
    with connect(path) as channel, ThreadPoolExecutor(1) as pool:
        calls = Calls(ContainerManagerStub(channel))
        with server_process(arguments, tmp_path / "log") as process:
            assert calls.status(bot_id) is None
            process.process.kill()
            process.wait()
        # Ready beforehand, so that nothing else lengthens the time.
        with serve_on(f"unix://{session_dir}/restart/next.sock"):
            status = pool.submit(calls.status, bot_id)
            time.sleep(2.7)
            socket.unlink()
            socket.symlink_to("next.sock")
            assert status.result(60) is None


@pytest.mark.parametrize("call", ["manager.StopContainer(stop)", "list(observer.StreamLogs(logs))"])
def test_a_call_on_a_closed_channel_raises_an_error(call: str) -> None:
    """In a process of its own, which gRPC ends with a segmentation fault otherwise."""
    program = f"""
from botmaker.container.v1.container_manager_pb2 import StopContainerRequest
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2 import StreamLogsRequest
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect
stop, logs = StopContainerRequest(), StreamLogsRequest()
with connect("unix:///nowhere") as channel:
    manager, observer = ContainerManagerStub(channel), ContainerObserverStub(channel)
try:
    {call}
except ValueError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "refused\n") == (done.returncode, done.stdout), done.stderr


def test_an_address_that_is_given_twice_is_refused(serve_on: ServeOn) -> None:
    with pytest.raises(StartupError, match="twice"), serve_on("unix:///a.sock", "unix:///a.sock"):
        pass
