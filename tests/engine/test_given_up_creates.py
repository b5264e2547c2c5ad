"""Conformance 11: a create that is given up leaves no name held, also when the engine carries it out later."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import error_info
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.serving import looped_server
from tests.support.threads import started_since
from tests.support.waiting import wait_until

ENGINE_SECONDS = 6.0


class Slow:
    """A service that gives its engine little time, with a proxy between them."""

    def __init__(self, stub: ContainerManagerStub, proxy: EngineProxy, state_root: Path) -> None:
        self.stub = stub
        self.calls = Calls(stub)
        self.proxy = proxy
        self.state_root = state_root
        self._before = set(threading.enumerate())

    def await_the_end(self) -> None:
        """Wait until the service searches for nothing."""
        wait_until(lambda: "creates given up" not in started_since(self._before), "nothing is sought")


@pytest.fixture
def slow(
    private_engine: PrivateEngine, own_bots: Bots, session_dir: Path, tmp_path: Path, secrets_root: Path
) -> Iterator[Slow]:
    state_root = tmp_path / "state"
    state_root.mkdir()
    with EngineProxy(private_engine.url, session_dir / "given-up.sock") as proxy:
        service = BackendConfig(
            secrets_root=RootDirectory(secrets_root, secrets_root),
            state_root=RootDirectory(state_root, state_root),
            docker_host=proxy.url,
            default_image=ensure_test_image(private_engine.url),
            engine_timeout_seconds=ENGINE_SECONDS,
        )
        config = ServerConfig(service=service, listen=(f"unix://{session_dir}/given-up/s.sock",))
        # The client would give each create a request id, and try it again.
        with looped_server(config) as server, grpc.insecure_channel(server.server.addresses[0]) as channel:
            wait_until(lambda: server.server.keeper.view.in_sync, "in sync")
            yield Slow(ContainerManagerStub(channel), proxy, state_root)


@pytest.fixture
def own_bots(private_engine: PrivateEngine, secrets_root: Path) -> Iterator[Bots]:
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    bots = Bots(client, secrets_root)
    yield bots
    bots.remove_all()
    client.close()


@pytest.mark.parametrize("request_id", ["", "wish"])
def test_conformance_11_a_create_whose_answer_comes_too_late_holds_no_name(
    slow: Slow, own_bots: Bots, request_id: str
) -> None:
    bot_id = own_bots.new()
    slow.proxy.mute("/containers/create")
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        slow.calls.create(bot_id, *FOREVER, request_id=request_id)
    slow.await_the_end()
    assert ([], []) == (own_bots.containers(), list(slow.state_root.iterdir()))
    assert 1 == len(slow.proxy.seen("DELETE /"))
    slow.proxy.mend()
    slow.calls.create(bot_id, *FOREVER)
    assert len(own_bots.containers()) == 1


@pytest.mark.parametrize("how", ["engine time-out", "broken connection", "deadline", "cancelled"])
def test_conformance_11_a_create_given_up_while_the_engine_is_frozen_holds_no_name(
    slow: Slow, private_engine: PrivateEngine, own_bots: Bots, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    # What the service asks a new engine first is known when the engine freezes.
    slow.calls.create(own_bots.new(), *FOREVER)
    slow.calls.remove(own_bots.ids[-1])
    slow.proxy.requests.clear()
    bot_id = own_bots.new()
    request = pb.CreateContainerRequest(bot_id=bot_id, config=pb.ContainerConfig(command=FOREVER))
    os.kill(private_engine.pid, signal.SIGSTOP)
    try:
        call = slow.stub.CreateContainer.future(request, timeout=5 if how == "deadline" else 30)
        wait_until(lambda: slow.proxy.seen("/containers/create"), "the create is sent")
        if how == "broken connection":
            slow.proxy.cut("/containers/create")
        if how == "cancelled":
            call.cancel()
            # Else the engine might answer before the service hears of it.
            wait_until(lambda: "'code': 'CANCELLED'" in caplog.text, "the service knows that the caller has gone")
        else:
            with pytest.raises(grpc.RpcError) as caught:
                call.result()
            wanted = "ENGINE_UNAVAILABLE" if how == "broken connection" else "ENGINE_TIMEOUT"
            assert wanted == error_info(caught.value).reason
    finally:
        os.kill(private_engine.pid, signal.SIGCONT)
    created = slow.calls.create(bot_id, *FOREVER)
    wait_until(lambda: [created] == [container.id for container in own_bots.containers()], "it is the only one")
    slow.calls.start(bot_id)
    status = slow.calls.status(bot_id)
    assert status is not None
    assert (created, pb.CONTAINER_STATE_RUNNING) == (status.container_id, status.state)


def test_conformance_11_a_retry_gets_the_container_of_a_create_that_was_given_up_and_it_stays(
    slow: Slow, own_bots: Bots
) -> None:
    bot_id = own_bots.new()
    slow.proxy.mute("/containers/create")
    slow.proxy.hang("/containers/json")
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        slow.calls.create(bot_id, *FOREVER, request_id="wish")
    assert [] == list(slow.state_root.iterdir())
    (made,) = own_bots.containers()
    assert made.id == slow.calls.create(bot_id, *FOREVER, request_id="wish")
    slow.proxy.mend()
    slow.proxy.cut("/containers/json")
    slow.await_the_end()
    assert [made.id] == [container.id for container in own_bots.containers()]
    slow.calls.start(bot_id)
