"""Every call is accounted for, however it ends: its code in the metrics, its line in the log, its id to its caller."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backends.docker.backend import DockerBackend
from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager.rpc.server import Server
from container_manager_client import error_info
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Hang, Json, Stream
from tests.support.scraping import ended, scrape, value
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until
from tests.unit.documents import inspected, running

BuildConfig = Callable[..., ServerConfig]
Serve = Callable[..., Any]


@pytest.fixture
def serve(server_config: BuildConfig, session_dir: Path, fake: FakeEngine) -> Serve:
    """Serves on a unix socket, unless told otherwise, with metrics; on an engine without containers."""
    fake.on("GET", "/containers/json", Json([]))
    fake.on("GET", "/events", Stream(_silence(fake)))

    @contextmanager
    def running_service(*listen: str, **further: Any) -> Iterator[LoopedServer]:
        address = f"unix://{session_dir}/observed/{uuid.uuid4().hex[:8]}.sock"
        config = server_config(*(listen or (address,)), metrics_listen="127.0.0.1:0", **further)
        with looped_server(config) as looped:
            yield looped

    return running_service


def _silence(fake: FakeEngine) -> Iterator[None]:
    """An event stream without an event, which lasts as long as the engine."""
    fake._released.wait()
    yield from ()


@contextmanager
def channel_to(looped: LoopedServer, *interceptors: Any) -> Iterator[grpc.Channel]:
    """Bare: none of our client in it."""
    target = looped.server.addresses[0].replace("unix://", "unix:").removeprefix("tcp://")
    with grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")]) as channel:
        yield channel


def metrics(looped: LoopedServer) -> str:
    return scrape(looped.server.observation.metrics_url)


def await_ended(looped: LoopedServer, method: str, code: str, count: int = 1) -> None:
    """Wait for so many calls to have ended so, and no others of the method."""
    wait_until(lambda: ended(metrics(looped), method, code) == count, f"{count} {method} {code}", 60)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The structured lines so far, of calls."""
    found = [record.msg for record in list(caplog.records) if isinstance(record.msg, dict)]
    return [line for line in found if line["event"] == "call"]


def in_sync(looped: LoopedServer) -> None:
    wait_until(lambda: looped.server.keeper.view.in_sync, "the view is in sync", 60)


def test_unary_calls_are_counted_by_the_code_that_they_ended_with(serve: Serve, fake: FakeEngine, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        rpc = Calls(ContainerManagerStub(channel))
        in_sync(looped)
        for _ in range(3):
            assert rpc.status(bot_id) is None
        with fails_with("INVALID_ARGUMENT", "INVALID_BOT_ID"):
            rpc.status("no bot")
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            rpc.start(bot_id)
        # The answer to a call that ends well comes after it was counted, that of an error before.
        await_ended(looped, "GetContainerStatus", "INVALID_ARGUMENT")
        await_ended(looped, "StartContainer", "NOT_FOUND")
        text = metrics(looped)
        assert 3 == ended(text, "GetContainerStatus", "OK")
        assert 4 == value(text, "container_manager_rpc_duration_seconds_bucket", method="GetContainerStatus", le="+Inf")
        assert 0 == value(text, "container_manager_rpcs_in_flight")
        engine_calls = "container_manager_engine_call_duration_seconds_count"
        assert value(text, engine_calls, operation="inspect_container", outcome="not_found") >= 1


def test_a_bug_is_counted_as_internal(serve: Serve, bot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as looped, channel_to(looped) as channel:
        in_sync(looped)
        monkeypatch.setattr(type(looped.server.keeper.view), "answers_for", lambda *_: 1 / 0)
        with fails_with("INTERNAL", "INTERNAL_ERROR"):
            Calls(ContainerManagerStub(channel)).status(bot_id)
        await_ended(looped, "GetContainerStatus", "INTERNAL")


def test_a_call_that_its_caller_cancels_or_whose_deadline_passes_is_counted_as_such(
    serve: Serve, fake: FakeEngine, bot_id: str
) -> None:
    fake.on("GET", "/containers/*/json", Hang())
    with serve() as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        request = pb.StartContainerRequest(bot_id=bot_id)
        call = stub.StartContainer.future(request)
        fake.await_request("GET", "/containers/*/json", timeout=60)
        assert 1 == value(metrics(looped), "container_manager_rpcs_in_flight", method="StartContainer")
        call.cancel()
        await_ended(looped, "StartContainer", "CANCELLED")
        assert 0 == value(metrics(looped), "container_manager_rpcs_in_flight", method="StartContainer")
        # A watch has no answer of ours for its deadline.
        observer = ContainerObserverStub(channel)

        def passed() -> int:
            # On a busy machine the caller's own deadline may pass first, or before the service hears of the call.
            with pytest.raises(grpc.RpcError):
                list(observer.WatchContainers(observer_pb.WatchContainersRequest(), timeout=0.5))
            return ended(metrics(looped), "WatchContainers", "DEADLINE_EXCEEDED")

        wait_until(passed, "a deadline that passed at the service")
        fake.release()


def test_streams_are_counted_while_they_are_open_and_by_the_code_of_their_end(
    serve: Serve, fake: FakeEngine, bot_id: str
) -> None:
    with serve(max_watchers=1) as looped, channel_to(looped) as channel:
        observer = ContainerObserverStub(channel)
        in_sync(looped)
        watch = observer.WatchContainers(observer_pb.WatchContainersRequest(), timeout=60)
        next(watch)
        text = metrics(looped)
        assert 1 == value(text, "container_manager_streams_open", kind="containers")
        assert 0 == value(text, "container_manager_streams_open", kind="logs")
        assert 1 == value(text, "container_manager_rpcs_in_flight", method="WatchContainers")
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            next(observer.WatchContainers(observer_pb.WatchContainersRequest(), timeout=60))
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            next(observer.StreamLogs(observer_pb.StreamLogsRequest(bot_id=bot_id)))
        await_ended(looped, "WatchContainers", "RESOURCE_EXHAUSTED")
        await_ended(looped, "StreamLogs", "NOT_FOUND")
        watch.cancel()
        await_ended(looped, "WatchContainers", "CANCELLED")
        assert 0 == value(metrics(looped), "container_manager_streams_open")


def test_a_stream_that_breaks_in_the_middle_is_counted_by_its_error(serve: Serve) -> None:
    with serve() as looped, channel_to(looped) as channel:
        in_sync(looped)
        watch = ContainerObserverStub(channel).WatchContainers(observer_pb.WatchContainersRequest(), timeout=60)
        assert next(watch).HasField("synced")
        # A round trip later it is not in the middle of that message any more.
        Calls(ContainerManagerStub(channel)).list()
        looped.loop.call_soon_threadsafe(looped.server.streams.close)
        with fails_with("UNAVAILABLE", "SHUTTING_DOWN"):
            next(watch)
        await_ended(looped, "WatchContainers", "UNAVAILABLE")


def test_calls_over_the_limit_are_counted(serve: Serve, fake: FakeEngine, bot_id: str) -> None:
    fake.on("GET", "/containers/*/json", Hang())
    with serve(max_concurrent_calls=1) as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        held = stub.StartContainer.future(pb.StartContainerRequest(bot_id=bot_id))
        wait_until(lambda: looped.server.places.changes.taken == 1, "it is under way", 60)
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED"):
            Calls(stub).stop(bot_id)
        await_ended(looped, "StopContainer", "RESOURCE_EXHAUSTED")
        fake.release()
        held.exception()


def test_calls_without_a_token_are_counted_and_their_inventions_are_no_labels(serve: Serve, tmp_path: Path) -> None:
    with serve("tcp://127.0.0.1:0", token_file=tmp_path / "token") as looped, channel_to(looped) as channel:
        rpc = Calls(ContainerManagerStub(channel))
        token = [("authorization", f"Bearer {(tmp_path / 'token').read_text().strip()}")]
        for _ in range(2):
            with fails_with("UNAUTHENTICATED", "UNAUTHENTICATED"):
                rpc.list()
            # An accepted call between refused ones: each is judged anew.
            rpc.stub.ListManagedContainers(pb.ListManagedContainersRequest(), metadata=token)
        for number in range(3):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/invented.Service/Method{number}")(b"")
        await_ended(looped, "ListManagedContainers", "UNAUTHENTICATED", 2)
        await_ended(looped, "ListManagedContainers", "OK", 2)
        await_ended(looped, "other", "UNAUTHENTICATED", 3)
        assert "invented" not in metrics(looped)


def test_calls_of_what_does_not_exist_are_counted_as_other(serve: Serve) -> None:
    with serve() as looped, channel_to(looped) as channel:
        for path in ("/invented.Service/Method", "/botmaker.container.v1.ContainerManager/Invented", "/x"):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(path)(b"")
            assert (grpc.StatusCode.UNIMPLEMENTED, "Method not found!") == (raised.value.code(), raised.value.details())
        await_ended(looped, "other", "UNIMPLEMENTED", 3)


def test_probes_and_reflection_are_counted_and_probes_not_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), serve() as looped, channel_to(looped) as channel:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request])))
        await_ended(looped, "ServerReflectionInfo", "OK")
        assert 1 == ended(metrics(looped), "Check", "OK")
        assert ["/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"] == [
            line["method"] for line in lines(caplog)
        ]


def test_each_call_gets_an_id_of_its_own_or_keeps_its_callers(serve: Serve, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        in_sync(looped)
        stub = ContainerManagerStub(channel)
        request = pb.GetContainerStatusRequest(bot_id=bot_id)

        def answered_id(*metadata: tuple[str, str]) -> str:
            _, call = stub.GetContainerStatus.with_call(request, metadata=metadata)
            found = [each.value for each in call.trailing_metadata() if each.key == "x-request-id"]
            (request_id,) = found
            assert isinstance(request_id, str)
            return request_id

        assert "checkout-4711" == answered_id(("x-request-id", "checkout-4711"))
        made = {answered_id(), answered_id(), answered_id(("x-request-id", "x" * 129))}
        assert 3 == len(made)


def test_an_error_comes_with_the_id_and_its_details(serve: Serve) -> None:
    metadata = (("x-request-id", "r-1"),)
    with serve() as looped, channel_to(looped) as channel:
        logs = ContainerObserverStub(channel).StreamLogs
        with pytest.raises(grpc.RpcError) as of_stream:
            next(logs(observer_pb.StreamLogsRequest(bot_id="no bot"), metadata=metadata))
        with pytest.raises(grpc.RpcError) as of_call:
            ContainerManagerStub(channel).StartContainer(pb.StartContainerRequest(bot_id="x"), metadata=metadata)
    for raised in (of_stream, of_call):
        assert ("x-request-id", "r-1") in [(each.key, each.value) for each in raised.value.trailing_metadata()]
        assert "INVALID_BOT_ID" == error_info(raised.value).reason


def test_one_line_tells_of_each_call_with_its_id_and_reads_that_end_well_are_for_debugging(
    serve: Serve, bot_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), serve() as looped, channel_to(looped) as channel:
        in_sync(looped)
        stub = ContainerManagerStub(channel)
        metadata = (("x-request-id", "r-1"),)
        stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), metadata=metadata)
        with pytest.raises(grpc.RpcError):
            stub.StartContainer(pb.StartContainerRequest(bot_id=bot_id), metadata=metadata)
        wait_until(lambda: lines(caplog), "its line", 60)
    (line,) = lines(caplog)
    assert line.pop("duration_ms") >= 0
    assert {
        "method": "/botmaker.container.v1.ContainerManager/StartContainer",
        "bot_id": bot_id,
        "code": "NOT_FOUND",
        "request_id": "r-1",
    } == {key: line[key] for key in line if key not in ("event", "level", "logger", "timestamp")}


def test_a_port_for_metrics_that_is_in_use_keeps_it_from_starting(
    server_config: BuildConfig, session_dir: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = session_dir / "observed" / "unused.sock"
        config = server_config(f"unix://{path}", metrics_listen=address)
        with pytest.raises(StartupError, match="--metrics-listen: cannot listen on"), looped_server(config):
            pass
        assert not path.exists()
    assert Server(config, partial(DockerBackend, config.service))


def test_an_unbroken_engine_shows_in_the_gauges(serve: Serve, fake: FakeEngine, bot_id: str) -> None:
    document = inspected(running(), container_id="c" * 64, name=f"botmaker-{bot_id}")
    fake.on("GET", "/containers/json", Json([{"Id": "c" * 64, "Names": ["/x"], "Labels": {}, "State": "running"}]))
    fake.on("GET", "/containers/*/json", Json(document))
    fake.on("POST", "/containers/*/stop", NO_CONTENT)
    with serve() as looped:
        in_sync(looped)
        text = metrics(looped)
        assert (1, 1, 0) == (
            value(text, "container_manager_view_containers"),
            value(text, "container_manager_view_in_sync"),
            value(text, "container_manager_view_drift_total"),
        )
        assert 0 == value(text, "container_manager_event_reconnects_total")
        fake.drop_connections()
        wait_until(lambda: value(metrics(looped), "container_manager_event_reconnects_total"), "it reconnects", 60)
