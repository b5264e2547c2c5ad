"""No stale answer: after a cut event stream, with a container that cannot be inspected, after an engine restart."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.view import synchronizer
from container_manager.view.live_view import Entry
from container_manager_client import connect
from dev.engine import PrivateEngine
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls, fails_with
from tests.support.engine_proxy import EngineProxy
from tests.support.observing import after_synced, kinds, watching
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until


@pytest.fixture
def proxy(engine_url: str, session_dir: Path) -> Iterator[EngineProxy]:
    """A proxy in front of the engine that injects faults."""
    with EngineProxy(engine_url, session_dir / "lost-proxy.sock") as proxy:
        yield proxy


@pytest.fixture
def looped(proxy: EngineProxy, secrets_root: Path, session_dir: Path, test_image: str) -> Iterator[LoopedServer]:
    """The real server behind the proxy."""
    root = RootDirectory(secrets_root, secrets_root)
    service = BackendConfig(secrets_root=root, docker_host=proxy.url, default_image=test_image)
    with looped_server(ServerConfig(service=service, listen=(f"unix://{session_dir}/lost/s.sock",))) as looped:
        wait_until(lambda: looped.server.keeper.view.in_sync, "in sync")
        yield looped


@pytest.fixture
def behind(looped: LoopedServer) -> Iterator[Calls]:
    """The RPCs of the server behind the proxy."""
    with connect(looped.server.addresses[0]) as channel:
        yield Calls(ContainerManagerStub(channel))


def test_statuses_and_lists_come_from_memory_while_events_come(behind: Calls, proxy: EngineProxy, bots: Bots) -> None:
    bot_id = bots.new()
    behind.run(bot_id, *FOREVER)
    asked = len(proxy.seen("/containers/"))
    for _ in range(50):
        status = behind.status(bot_id)
        assert status is not None
        assert [status] == behind.listed([bot_id])
    # The events of the start may still cause an inspection.
    assert len(proxy.seen("/containers/")) <= asked + 1


def test_while_the_event_stream_is_cut_reads_go_to_the_engine(
    behind: Calls, looped: LoopedServer, proxy: EngineProxy, bots: Bots
) -> None:
    view = looped.server.keeper.view
    bot_id = bots.new()
    container = bots.engine.containers.get(behind.run(bot_id, *FOREVER))
    proxy.refuse("/events")
    wait_until(lambda: not view.in_sync, "the loss is noticed")
    for act, state in ((container.pause, pb.CONTAINER_STATE_PAUSED), (container.unpause, pb.CONTAINER_STATE_RUNNING)):
        act()
        status = behind.status(bot_id)
        assert status is not None
        assert state == status.state
        assert [status] == behind.listed([bot_id])
    container.pause()
    proxy.mend()
    wait_until(lambda: view.in_sync, "events come again")
    status = behind.status(bot_id)
    assert status is not None
    assert pb.CONTAINER_STATE_PAUSED == status.state


def test_a_watcher_hears_resynced_and_then_what_it_has_missed(
    behind: Calls, looped: LoopedServer, proxy: EngineProxy, bots: Bots
) -> None:
    view = looped.server.keeper.view
    changed, gone, same = bots.new(), bots.new(), bots.new()
    containers = {bot_id: bots.engine.containers.get(behind.run(bot_id, *FOREVER)) for bot_id in (changed, gone, same)}
    with (
        connect(looped.server.addresses[0]) as channel,
        watching(ContainerObserverStub(channel), [changed, gone, same]) as watch,
    ):
        proxy.refuse("/events")
        wait_until(lambda: not view.in_sync, "the loss is noticed")
        containers[changed].pause()
        containers[gone].remove(force=True)
        proxy.mend()
        told = watch.wait_for(
            lambda messages: len(after_synced(messages)) >= 3 and after_synced(messages), "what was missed"
        )
        assert "resynced" == kinds(told)[0]
        assert {("changed", changed), ("removed", gone)} == {
            (kind, message.changed.bot_id or message.removed.bot_id)
            for kind, message in zip(kinds(told)[1:], told[1:], strict=True)
        }


def test_a_container_that_cannot_be_inspected_holds_up_no_other(
    behind: Calls, looped: LoopedServer, proxy: EngineProxy, bots: Bots
) -> None:
    wedged, well = bots.new(), bots.new()
    containers = {bot_id: bots.engine.containers.get(behind.run(bot_id, *FOREVER)) for bot_id in (wedged, well)}
    view = looped.server.keeper.view
    wait_until(lambda: not looped.server.keeper._refresher.pending(), "quiet")
    proxy.hang(f"/containers/{containers[wedged].id}/json")
    for container in containers.values():
        container.pause()

    def shown(bot_id: str) -> int:
        return next(each.state for each in behind.list() if each.bot_id == bot_id)

    wait_until(lambda: shown(well) == pb.CONTAINER_STATE_PAUSED, "the other one")
    wait_until(lambda: containers[wedged].id in view.doubts, "doubt")
    # The engine's list still shows it.
    wait_until(lambda: shown(wedged) == pb.CONTAINER_STATE_PAUSED, "the row of the wedged one")
    proxy.mend()
    wait_until(lambda: not view.doubts, "no more doubt")
    status = behind.status(wedged)
    assert status is not None
    assert pb.CONTAINER_STATE_PAUSED == status.state


@pytest.fixture
def own(private_engine: PrivateEngine, session_dir: Path, tmp_path: Path) -> Iterator[tuple[LoopedServer, Bots]]:
    """The real server on a private engine."""
    client = docker.DockerClient(base_url=private_engine.url, version="auto")
    bots = Bots(client, tmp_path)
    root = RootDirectory(tmp_path, tmp_path)
    image = ensure_test_image(private_engine.url)
    service = BackendConfig(secrets_root=root, docker_host=private_engine.url, default_image=image)
    with looped_server(ServerConfig(service=service, listen=(f"unix://{session_dir}/own/s.sock",))) as looped:
        wait_until(lambda: looped.server.keeper.view.in_sync, "in sync")
        yield looped, bots
    bots.remove_all()
    client.close()


def test_conformance_16_the_engine_restarted_resyncs_watchers_and_the_list_is_true(
    private_engine: PrivateEngine, own: tuple[LoopedServer, Bots]
) -> None:
    looped, bots = own
    view = looped.server.keeper.view
    with connect(looped.server.addresses[0]) as channel:
        calls, observer = Calls(ContainerManagerStub(channel)), ContainerObserverStub(channel)
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        with watching(observer, [bot_id]) as watch:
            before = watch.messages[0].snapshot.start_time.ToNanoseconds()
            private_engine.kill()
            wait_until(lambda: not view.in_sync, "the loss is noticed")
            with fails_with("UNAVAILABLE", "ENGINE_UNAVAILABLE"):
                next(observer.WatchContainers(observer_pb.WatchContainersRequest()))
            private_engine.start()
            watch.wait_for(lambda messages: "resynced" in kinds(messages), "resynced", 60)
            bots.engine.containers.get(f"botmaker-{bot_id}").restart(timeout=0)
            watch.wait_for(lambda messages: messages[-1].changed.start_time.ToNanoseconds() > before, "the new start")
            assert [watch.messages[-1].changed] == calls.listed([bot_id])


@pytest.mark.usefixtures("early_answers")
def test_an_engine_that_hangs_is_not_answered_for(
    private_engine: PrivateEngine, own: tuple[LoopedServer, Bots]
) -> None:
    looped, bots = own
    view = looped.server.keeper.view
    with connect(looped.server.addresses[0]) as channel:
        calls = Calls(ContainerManagerStub(channel))
        bot_id = bots.new()
        calls.run(bot_id, *FOREVER)
        os.kill(private_engine.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: not view.in_sync, "the health check notices")
            with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
                calls.stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), timeout=4)
        finally:
            os.kill(private_engine.pid, signal.SIGCONT)
        wait_until(lambda: view.in_sync, "in sync again")
        status = calls.status(bot_id)
        assert status is not None
        assert pb.CONTAINER_STATE_RUNNING == status.state


def test_a_check_that_the_engine_answers_too_late_loses_nothing_and_costs_no_inspection(
    behind: Calls, looped: LoopedServer, proxy: EngineProxy, bots: Bots
) -> None:
    keeper = looped.server.keeper
    bot_id = bots.new()
    container_id = behind.run(bot_id, *FOREVER)
    await_old_events(bots, container_id)
    wait_until(lambda: not keeper._refresher.pending(), "quiet")

    def inspections() -> list[str]:
        return [line for line in proxy.seen("/json") if container_id in line]

    inspected, lost = inspections(), []
    keeper.view.add_listener(_Losses(lost))
    proxy.hang("/_ping")
    wait_until(lambda: keeper._failed_checks, "a check has failed")
    proxy.mend()
    assert behind.status(bot_id) is not None
    wait_until(lambda: not keeper._failed_checks, "the engine answers")
    assert ([], inspected, 0) == (lost, inspections(), keeper.reconnects)


def test_after_a_loss_a_container_that_has_run_all_the_time_is_not_inspected_again(
    behind: Calls, looped: LoopedServer, proxy: EngineProxy, bots: Bots, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However short it has run.
    monkeypatch.setattr(synchronizer, "_LATE_SECONDS", -1e9)
    keeper = looped.server.keeper
    steady, stopped = bots.new(), bots.new()
    steady_id = behind.run(steady, *FOREVER, ports=[{"container_port": 80}])
    container = bots.engine.containers.get(behind.run(stopped, *FOREVER))
    await_old_events(bots, steady_id)
    wait_until(lambda: not keeper._refresher.pending(), "quiet")
    before = behind.status(steady)
    proxy.refuse("/events")
    wait_until(lambda: not keeper.view.in_sync, "the loss is noticed")
    container.stop(timeout=0)
    inspected = len(proxy.seen("/json"))
    proxy.mend()
    wait_until(lambda: keeper.view.in_sync, "events come again")
    since = proxy.seen("/json")[inspected:]
    assert [] == [line for line in since if steady_id in line]
    assert [line for line in since if container.id in line]
    assert before == behind.status(steady)
    status = behind.status(stopped)
    assert status is not None
    assert pb.CONTAINER_STATE_EXITED == status.state


def await_old_events(bots: Bots, container_id: str) -> None:
    """Wait until the container's start is longer ago than the events that a new subscription repeats."""
    api = bots.engine.api
    wait_until(lambda: re.match(r"Up ([7-9]|\d\d) s", api.containers(filters={"id": container_id})[0]["Status"]), "7 s")


class _Losses:
    """A listener that notes when the view is lost."""

    def __init__(self, lost: list[int]) -> None:
        self._lost = lost

    def changed(self, entry: Entry) -> None:
        """Called by the view."""

    def removed(self, entry: Entry, version: int) -> None:
        """Called by the view."""

    def lost(self, version: int) -> None:
        self._lost.append(version)

    def regained(self) -> None:
        """Called by the view."""
