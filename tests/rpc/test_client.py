"""The client against the real server: what its channels add to the stubs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.config import TlsConfig
from container_manager.errors import CommandNotFoundError, EngineUnavailableError, StartupError
from container_manager_client import TlsFiles, connect, connect_aio, error_info
from tests.rpc.conftest import ServeOn
from tests.support.calls import Calls, fails_with
from tests.support.certificates import Authority, server_files
from tests.support.fake_engine import FakeEngine
from tests.support.memory_backend import MemoryBackend, MemoryBots
from tests.support.relay import Relay
from tests.support.serving import server_process

# Makes a call on a channel of either kind.
Use = Callable[[Any], Any]


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


OURS = Authority()


@dataclass(frozen=True)
class Transport:
    """How the servers of a test are reached, through the relay."""

    relay: Relay
    listen: str
    tls: TlsConfig | None

    @property
    def options(self) -> dict[str, Any]:
        """Of a server."""
        return {} if self.listen.startswith("unix") else {"insecure_no_auth": True, "tls": self.tls}

    @property
    def arguments(self) -> list[str]:
        """Of a server's process."""
        files = [] if self.tls is None else [self.tls.cert, self.tls.key, self.tls.client_ca]
        named = zip(("--tls-cert", "--tls-key", "--tls-client-ca"), map(str, files), strict=False)
        return ["--listen", self.listen, *(["--insecure-no-auth"] if self.options else []), *chain(*named)]

    def call(self, use: Use, *, aio: bool) -> Any:
        """What the call gives over one of the client's channels."""
        tls = None if self.tls is None else OURS.client()
        if aio:
            return asyncio.run(self._call_aio(use, tls))
        with connect(self.relay.address, tls=tls) as channel:
            called = use(channel)
            return list(called) if isinstance(called, Iterator) else called

    async def _call_aio(self, use: Use, tls: TlsFiles | None) -> Any:
        async with connect_aio(self.relay.address, tls=tls) as channel:
            called = use(channel)
            return await called if isinstance(called, Awaitable) else [each async for each in called]


@pytest.fixture(params=["unix", "tcp", "tls"])
def transport(request: pytest.FixtureRequest, session_dir: Path, tmp_path: Path) -> Iterator[Transport]:
    """Unix sockets, TCP, and TCP with TLS. The servers' own sockets are ``relayed`` to."""
    directory = session_dir / "relay"
    directory.mkdir(exist_ok=True)
    unix = request.param == "unix"
    with Relay(f"unix://{directory}/s.sock" if unix else "tcp://127.0.0.1:0") as relay:
        listen = f"unix://{session_dir}/relayed/s.sock" if unix else "tcp://127.0.0.1:0"
        yield Transport(relay, listen, server_files(tmp_path, OURS) if request.param == "tls" else None)


WAITING = {"wait_for_ready": True, "timeout": 60}
KINDS: dict[str, Use] = {
    "unary-unary": lambda channel: ContainerManagerStub(channel).StartContainer(
        pb.StartContainerRequest(bot_id="no bot"), **WAITING
    ),
    "unary-stream": lambda channel: ContainerObserverStub(channel).StreamLogs(
        observer_pb.StreamLogsRequest(bot_id="no bot"), **WAITING
    ),
    "stream-stream": lambda channel: reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), **WAITING
    ),
}


@pytest.mark.parametrize("aio", [False, True], ids=["sync", "aio"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_is_to_wait_for_the_server_waits(
    serve_on: ServeOn, transport: Transport, kind: str, *, aio: bool
) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(transport.call, KINDS[kind], aio=aio)
        time.sleep(0.5)
        with serve_on(transport.listen, **transport.options) as addresses:
            transport.relay.listen(addresses[0])
            error = call.exception(60)
            transport.relay.leave()
    # The server's own answer.
    assert error is None or (isinstance(error, grpc.RpcError) and grpc.StatusCode.INVALID_ARGUMENT is error.code())
    assert (error is None) == (kind == "stream-stream")


@pytest.mark.parametrize("aio", [False, True], ids=["sync", "aio"])
def test_a_status_that_is_asked_for_while_the_service_restarts_is_answered(
    fake: FakeEngine, serve_on: ServeOn, bot_id: str, transport: Transport, tmp_path: Path, *, aio: bool
) -> None:
    """It is away for about 3 s from then on."""
    (tmp_path / "secrets").mkdir(mode=0o711)
    arguments = [*transport.arguments, "--docker-host", fake.url, "--secrets-root", str(tmp_path / "secrets")]
    request = pb.GetContainerStatusRequest(bot_id=bot_id)
    served, away = threading.Event(), threading.Event()

    def before_and_after(channel: Any) -> Any:
        stub = ContainerManagerStub(channel)

        async def both() -> Any:
            before = await stub.GetContainerStatus(request)
            served.set()
            await asyncio.to_thread(away.wait, 60)
            return [before, await stub.GetContainerStatus(request)]

        if aio:
            return both()
        before = stub.GetContainerStatus(request)
        served.set()
        away.wait(60)
        return [before, stub.GetContainerStatus(request)]

    with ThreadPoolExecutor(1) as pool:
        with server_process(arguments, tmp_path / "log") as process:
            transport.relay.listen(process.line.split()[-1])
            statuses = pool.submit(transport.call, before_and_after, aio=aio)
            assert served.wait(60)
            process.process.kill()
            process.wait()
            transport.relay.leave()
        # Ready beforehand, so that nothing else lengthens the time.
        with serve_on(transport.listen, **transport.options) as addresses:
            away.set()
            time.sleep(2.7)
            transport.relay.listen(addresses[0])
            assert [pb.GetContainerStatusResponse()] * 2 == statuses.result(60)
            transport.relay.leave()


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
