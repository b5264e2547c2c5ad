"""The client against the real server: what its channels add to the stubs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager_client import connect, connect_aio, error_info
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import FakeEngine, Json, error
from tests.support.serving import running_server
from tests.unit.documents import inspected, running, state


@pytest.fixture
def target(server_config: Callable[..., ServerConfig], session_dir: Path) -> Iterator[str]:
    """The server on a unix socket."""
    with running_server(server_config(f"unix://{session_dir}/client/s.sock")) as addresses:
        yield addresses[0]


def shown(bot_id: str, engine_state: dict[str, object]) -> Json:
    """The bot's container as the engine shows it."""
    labels = {"botmaker.managed": "true", "botmaker.bot-id": bot_id}
    return Json(inspected(engine_state, name=f"/botmaker-{bot_id}", labels=labels))


def test_unavailable_is_retried_for_a_status_and_hidden_from_the_caller(
    target: str, fake: FakeEngine, bot_id: str
) -> None:
    fake.on("GET", "/containers/*/json", error(500, "first"), error(500, "second"), shown(bot_id, running()))
    with connect(target) as channel:
        assert Calls(ContainerManagerStub(channel)).status(bot_id) is not None
    assert len(fake.seen("GET", "/containers/*/json")) == 3


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_unavailable_is_never_retried_for_start_and_restart(
    target: str, fake: FakeEngine, bot_id: str, verb: str
) -> None:
    fake.on("GET", "/containers/*/json", error(500, "the engine fails"))
    with connect(target) as channel, fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
        getattr(Calls(ContainerManagerStub(channel)), verb)(bot_id)
    assert len(fake.seen("GET", "/containers/*/json")) == 1


def test_a_failed_start_reaches_the_engine_once(target: str, fake: FakeEngine, bot_id: str) -> None:
    fake.on("GET", "/containers/*/json", shown(bot_id, state()))
    fake.on("POST", "/containers/*/start", error(500, 'exec: "x": executable file not found in $PATH: unknown'))
    with connect(target) as channel, fails_with("FAILED_PRECONDITION", "COMMAND_NOT_FOUND"):
        Calls(ContainerManagerStub(channel)).start(bot_id)
    assert len(fake.seen("POST", "/containers/*/start")) == 1


def test_every_create_carries_a_request_id_of_its_own_unless_given(target: str, fake: FakeEngine, bot_id: str) -> None:
    fake.on("POST", "/containers/create", error(400, "refused"))
    with connect(target) as channel:
        calls = Calls(ContainerManagerStub(channel))
        for request_id in ("", "", "mine"):
            with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
                calls.create(bot_id, request_id=request_id)
    sent = [request.body["Labels"]["botmaker.request-id"] for request in fake.seen("POST", "/containers/create")]
    assert sent[2] == "mine"
    assert len(set(sent)) == 3


def test_no_proxy_of_the_environment_is_used(
    server_config: Callable[..., ServerConfig], bot_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    with running_server(server_config("tcp://127.0.0.1:0", insecure_no_auth=True)) as addresses:
        # A plain channel does take the proxy, so the test can fail.
        with grpc.insecure_channel(addresses[0].removeprefix("tcp://")) as plain, pytest.raises(grpc.RpcError):
            ContainerManagerStub(plain).GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=2)
        with connect(addresses[0]) as channel:
            assert Calls(ContainerManagerStub(channel)).status(bot_id) is None


@pytest.mark.parametrize("name", ["with space", "50%41", "a#b", "a?b", "é"])
def test_a_socket_is_served_and_found_whatever_its_path(
    server_config: Callable[..., ServerConfig], session_dir: Path, bot_id: str, name: str
) -> None:
    target = f"unix://{session_dir}/{name}/s.sock"
    with running_server(server_config(target)):
        assert Path(target.removeprefix("unix://")).is_socket()
        with connect(target) as channel:
            assert Calls(ContainerManagerStub(channel)).status(bot_id) is None


def test_a_token_is_never_sent_to_another_machine() -> None:
    for make in (connect, connect_aio):
        with pytest.raises(ValueError, match="plain text"):
            make("tcp://192.0.2.1:50051", token="secret-token")


def test_the_aio_channel_gives_the_same_answers_and_errors(target: str, fake: FakeEngine, bot_id: str) -> None:
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
    server_config: Callable[..., ServerConfig], session_dir: Path, bot_id: str
) -> None:
    path = f"unix://{session_dir}/later/s.sock"
    with connect(path) as channel:
        stub = ContainerManagerStub(channel)
        with fails_with("UNAVAILABLE", ""):
            stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id))
        for _ in range(2):
            with running_server(server_config(path)):
                assert Calls(stub).status(bot_id) is None


def test_an_address_that_is_given_twice_is_refused(server_config: Callable[..., ServerConfig]) -> None:
    with pytest.raises(StartupError, match="twice"), running_server(server_config("unix:///a.sock", "unix:///a.sock")):
        pass
