"""Traces as a collector gets them from the real server: calls, and what they led to at the engine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig, TracingConfig
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Json, Stream
from tests.support.scraping import scrape, value
from tests.support.serving import LoopedServer, looped_server
from tests.support.span_receiver import SpanReceiver, attributes
from tests.support.waiting import wait_until
from tests.unit.documents import LABELS, inspected, running

BuildConfig = Callable[..., ServerConfig]
PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METHOD = "botmaker.container.v1.ContainerManager"


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture
def serve(
    server_config: BuildConfig, session_dir: Path, fake: FakeEngine, bot_id: str, receiver: SpanReceiver
) -> Callable[[], Any]:
    """Serves one bot, which runs, with metrics and traces."""
    labels = {**LABELS, "botmaker.bot-id": bot_id}
    fake.on("GET", "/containers/json", Json([]))
    fake.on("GET", "/containers/*/json", Json(inspected(running(), name=f"botmaker-{bot_id}", labels=labels)))
    fake.on("POST", "/containers/*/stop", NO_CONTENT)
    fake.on("GET", "/events", Stream(_silence(fake)))

    @contextmanager
    def running_service() -> Iterator[LoopedServer]:
        config = server_config(
            f"unix://{session_dir}/traced/{uuid.uuid4().hex[:8]}.sock",
            metrics_listen="127.0.0.1:0",
            tracing=TracingConfig(receiver.endpoint, "the test"),
        )
        with looped_server(config) as looped:
            wait_until(lambda: looped.server.keeper.view.in_sync, "the view is in sync", 60)
            yield looped

    return running_service


def _silence(fake: FakeEngine) -> Iterator[None]:
    """An event stream without an event, which lasts as long as the engine."""
    fake._released.wait()
    yield from ()


@contextmanager
def channel_to(looped: LoopedServer) -> Iterator[grpc.Channel]:
    """Bare: none of our client in it."""
    target = looped.server.addresses[0].replace("unix://", "unix:")
    with grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")]) as channel:
        yield channel


def test_a_change_is_a_span_in_its_callers_trace_with_the_engines_calls_below_it(
    serve: Callable[[], Any], receiver: SpanReceiver, bot_id: str
) -> None:
    trace_id, parent_id = PARENT
    metadata = [
        ("traceparent", f"00-{trace_id}-{parent_id}-01"),
        ("tracestate", "vendor=a"),
        ("x-request-id", "r-1"),
    ]
    begun = time.time_ns()
    with serve() as looped, channel_to(looped) as channel:
        ContainerManagerStub(channel).StopContainer(pb.StopContainerRequest(bot_id=bot_id), metadata=metadata)
        (server,) = receiver.await_spans(lambda span: span.name == f"{METHOD}/StopContainer")
        below = receiver.await_spans(lambda span: span.parent_span_id == server.span_id, 2)
    assert (trace_id, parent_id, "vendor=a") == (server.trace_id.hex(), server.parent_span_id.hex(), server.trace_state)
    assert {
        "rpc.system": "grpc",
        "rpc.service": METHOD,
        "rpc.method": "StopContainer",
        "rpc.grpc.status_code": 0,
        "botmaker.request_id": "r-1",
        "botmaker.bot_id": bot_id,
    } == attributes(server)
    assert ["engine inspect_container", "engine stop_container"] == [span.name for span in below]
    assert begun <= server.start_time_unix_nano <= server.end_time_unix_nano <= time.time_ns()
    for span in below:
        assert (trace_id, "ok") == (span.trace_id.hex(), attributes(span)["botmaker.engine.outcome"])
        assert begun <= span.start_time_unix_nano <= span.end_time_unix_nano <= time.time_ns()


def test_statuses_and_errors_are_spans_and_probes_and_unsampled_calls_are_not(
    serve: Callable[[], Any], receiver: SpanReceiver, bot_id: str
) -> None:
    unsampled = [("traceparent", f"00-{PARENT[0]}-{PARENT[1]}-00")]
    with serve() as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id), metadata=unsampled)
        stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        with pytest.raises(grpc.RpcError):
            stub.StartContainer(pb.StartContainerRequest(bot_id="no bot"))
        receiver.await_spans(lambda span: span.name == f"{METHOD}/StartContainer")
    # All that is to come has come: what waits at the end is sent.
    calls = {span.name: span for span in receiver.spans if span.name.startswith(METHOD)}
    assert {f"{METHOD}/GetContainerStatus", f"{METHOD}/StartContainer"} == set(calls)
    assert 2 == len([span for span in receiver.spans if span.name.startswith(METHOD)])
    assert 3 == attributes(calls[f"{METHOD}/StartContainer"])["rpc.grpc.status_code"]
    assert "botmaker.bot_id" not in attributes(calls[f"{METHOD}/StartContainer"])
    assert not any("Health" in span.name for span in receiver.spans)


def test_what_the_collector_took_is_counted(serve: Callable[[], Any], receiver: SpanReceiver, bot_id: str) -> None:
    with serve() as looped, channel_to(looped) as channel:
        ContainerManagerStub(channel).GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        url = looped.server.observation.metrics_url
        wait_until(lambda: value(scrape(url), "container_manager_spans_exported_total") >= 1, "it is counted", 60)
        assert 0 == value(scrape(url), "container_manager_spans_dropped_total")


def test_a_collector_that_hangs_holds_up_neither_calls_nor_the_end(
    serve: Callable[[], Any], receiver: SpanReceiver, bot_id: str
) -> None:
    receiver.gate.clear()
    with serve() as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        for _ in range(20):
            stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        exporter = looped.server.observation._exporter
        assert exporter is not None
        wait_until(lambda: not exporter._queue, "an export is under way", 60)
    # Ended, though nothing was taken.
    assert ([], 0) == (receiver.spans, exporter.exported)
    wait_until(lambda: exporter.dropped["shutdown"] == 20, "all are counted", 60)
