"""Every call is counted by the code that it ends with."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.backends.docker.backend import DockerBackend
from container_manager.config import ServerConfig
from container_manager.errors import StartupError
from container_manager.rpc.server import Server
from tests.support.calls import Calls, fails_with
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Hang, Json
from tests.support.observed_service import Serve, await_ended, await_sync, channel_to, metrics
from tests.support.scraping import ended, samples, value
from tests.support.serving import looped_server
from tests.support.waiting import wait_until
from tests.unit.documents import inspected, running

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
BuildConfig = Callable[..., ServerConfig]


def test_unary_calls_are_counted_by_the_code_that_they_ended_with(serve: Serve, fake: FakeEngine, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        rpc = Calls(ContainerManagerStub(channel))
        await_sync(looped)
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


def test_a_request_that_is_too_large_is_counted_as_cancelled(serve: Serve, bot_id: str) -> None:
    """As docs/observability.md says: gRPC refuses it before the service has read it."""
    with serve() as looped, channel_to(looped) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            Calls(ContainerManagerStub(channel)).create(bot_id, "x" * (5 * 1024 * 1024))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await_ended(looped, "CreateContainer", "CANCELLED")
        assert 0 == ended(metrics(looped), "CreateContainer", "RESOURCE_EXHAUSTED")


def test_every_error_that_the_contract_names_is_counted_from_zero(serve: Serve, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        await_sync(looped)
        before = counters(metrics(looped))
        with fails_with("NOT_FOUND", "CONTAINER_NOT_FOUND"):
            Calls(ContainerManagerStub(channel)).start(bot_id)
        await_ended(looped, "StartContainer", "NOT_FOUND")
        after = counters(metrics(looped))
    assert {0} == {before[each] for each in documented_errors()}
    # What Prometheus' increase() sees: nothing but this one error.
    assert [(("StartContainer", "NOT_FOUND"), 1)] == [
        (each, after[each] - before[each]) for each in after if after[each] != before[each]
    ]


def counters(text: str) -> dict[tuple[str, str], float]:
    """The number of calls by method and code."""
    found = [sample for sample in samples(text) if sample.name == "container_manager_rpcs_total"]
    return {(sample.labels["method"], sample.labels["code"]): sample.value for sample in found}


def documented_errors() -> set[tuple[str, str]]:
    """Each RPC of the contract with each code that it can end with: those of its own reasons, and those of any RPC."""
    errors = REFERENCE.partition("## Errors")[2].partition("\n## ")[0]
    codes = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", errors, re.MULTILINE))
    rows = re.findall(r"^\| \[(\w+)\]\(#\w+\) \|.*\| (.*) \|$", REFERENCE, re.MULTILINE)
    own = {(method, codes[reason]) for method, reasons in rows for reason in re.findall(r"`(\w+)`", reasons)}
    # Reasons that no RPC names are those of any.
    named = {reason for _, reasons in rows for reason in re.findall(r"`(\w+)`", reasons)}
    return own | {(method, codes[reason]) for method, _ in rows for reason in set(codes) - named}


def test_the_reference_has_errors_of_every_rpc() -> None:
    found = documented_errors()
    assert {"StartContainer", "ListManagedContainers", "StreamLogs"} <= {method for method, _ in found}
    assert {("StartContainer", "NOT_FOUND"), ("CreateContainer", "ALREADY_EXISTS"), ("WatchStats", "INTERNAL")} <= found


def test_a_bug_is_counted_as_internal(serve: Serve, bot_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as looped, channel_to(looped) as channel:
        await_sync(looped)
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
        await_sync(looped)
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
        await_sync(looped)
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
        await_sync(looped)
        text = metrics(looped)
        assert (1, 1, 0) == (
            value(text, "container_manager_view_containers"),
            value(text, "container_manager_view_in_sync"),
            value(text, "container_manager_view_drift_total"),
        )
        assert 0 == value(text, "container_manager_event_reconnects_total")
        fake.drop_connections()
        wait_until(lambda: value(metrics(looped), "container_manager_event_reconnects_total"), "it reconnects", 60)


def test_the_lag_of_the_event_loop_is_measured_all_the_time(serve: Serve) -> None:
    with serve() as looped:
        count = "container_manager_event_loop_lag_seconds_count"
        wait_until(lambda: value(metrics(looped), count) >= 3, "measurements")

        async def block() -> None:
            time.sleep(0.6)  # noqa: ASYNC251 - the event loop is to be late

        before = value(metrics(looped), "container_manager_event_loop_lag_seconds_sum")
        looped.run(block())
        wait_until(
            lambda: value(metrics(looped), "container_manager_event_loop_lag_seconds_sum") >= before + 0.4, "the lag"
        )
