"""Traces as a collector gets them from the real server: calls, and what they led to at the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig, TracingConfig
from tests.support.fake_engine import NO_CONTENT, FakeEngine, Json, error
from tests.support.observed_service import Serve, await_sync, channel_to
from tests.support.scraping import scrape, value
from tests.support.serving import LoopedServer
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
def serve_bot(serve: Serve, fake: FakeEngine, bot_id: str, receiver: SpanReceiver) -> Serve:
    """Serves one bot, which runs, with metrics and traces."""
    labels = {**LABELS, "botmaker.bot-id": bot_id}
    fake.on("GET", "/containers/*/json", Json(inspected(running(), name=f"botmaker-{bot_id}", labels=labels)))
    fake.on("POST", "/containers/*/stop", NO_CONTENT)

    @contextmanager
    def running_service() -> Iterator[LoopedServer]:
        with serve(tracing=TracingConfig(receiver.endpoint, "the test")) as looped:
            await_sync(looped)
            yield looped

    return running_service


def test_a_change_is_a_span_in_its_callers_trace_with_the_engines_calls_below_it(
    serve_bot: Serve, receiver: SpanReceiver, bot_id: str
) -> None:
    trace_id, parent_id = PARENT
    metadata = [
        ("traceparent", f"00-{trace_id}-{parent_id}-01"),
        ("tracestate", "vendor=a"),
        ("x-request-id", "r-1"),
    ]
    begun = time.time_ns()
    with serve_bot() as looped, channel_to(looped) as channel:
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


def test_of_reads_only_those_that_fail_or_are_in_a_sampled_trace_have_a_span(
    serve_bot: Serve, receiver: SpanReceiver, bot_id: str
) -> None:
    sampled, unsampled = ([("traceparent", f"00-{PARENT[0]}-{PARENT[1]}-{flag}")] for flag in ("01", "00"))
    status = pb.GetContainerStatusRequest(bot_id=bot_id)
    with serve_bot() as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        stub.GetContainerStatus(status)
        stub.GetContainerStatus(status, metadata=unsampled)
        stub.GetContainerStatus(status, metadata=sampled)
        stub.ListManagedContainers(pb.ListManagedContainersRequest())
        with pytest.raises(grpc.RpcError):
            stub.GetContainerStatus(pb.GetContainerStatusRequest(bot_id="no bot"))
    # The end of the service sends what is left, so there are no more to come.
    found = [(span.name, span.trace_id.hex() == PARENT[0], attributes(span)) for span in receiver.spans]
    in_trace, failed = sorted(found, key=lambda each: not each[1])
    assert (f"{METHOD}/GetContainerStatus", True, bot_id) == (*in_trace[:2], in_trace[2]["botmaker.bot_id"])
    assert (f"{METHOD}/GetContainerStatus", False, 3) == (*failed[:2], failed[2]["rpc.grpc.status_code"])
    assert "botmaker.bot_id" not in failed[2]


def test_a_failed_read_that_the_engine_answers_has_its_calls_below_it(
    serve_bot: Serve, receiver: SpanReceiver, fake: FakeEngine, bot_id: str
) -> None:
    with serve_bot() as looped, channel_to(looped) as channel:
        fake.on("GET", "/events", error(500, "no events"))
        fake.on("GET", "/containers/*/json", error(500, "no answer"))
        fake.drop_connections()
        wait_until(lambda: not looped.server.keeper.view.in_sync, "the engine is asked", 60)
        with pytest.raises(grpc.RpcError):
            ContainerManagerStub(channel).GetContainerStatus(pb.GetContainerStatusRequest(bot_id=bot_id))
        (server,) = receiver.await_spans(lambda span: span.name == f"{METHOD}/GetContainerStatus")
        below = receiver.await_spans(lambda span: span.parent_span_id == server.span_id)
    assert {"engine inspect_container"} == {span.name for span in below}
    assert server.start_time_unix_nano <= below[0].start_time_unix_nano


def test_what_the_collector_took_is_counted(serve_bot: Serve, receiver: SpanReceiver, bot_id: str) -> None:
    with serve_bot() as looped, channel_to(looped) as channel:
        ContainerManagerStub(channel).StopContainer(pb.StopContainerRequest(bot_id=bot_id))
        url = looped.server.telemetry.metrics_url
        wait_until(lambda: value(scrape(url), "container_manager_spans_exported_total") >= 2, "it is counted", 60)
        assert 0 == value(scrape(url), "container_manager_spans_dropped_total")


def test_a_collector_that_hangs_holds_up_neither_calls_nor_the_end(
    serve_bot: Serve, receiver: SpanReceiver, bot_id: str
) -> None:
    receiver.gate.clear()
    with serve_bot() as looped, channel_to(looped) as channel:
        stub = ContainerManagerStub(channel)
        for _ in range(20):
            stub.StopContainer(pb.StopContainerRequest(bot_id=bot_id))
        assert receiver.asked.wait(60)
    # The service has ended although nothing was taken.
    # Two spans a call: its own and the engine's.
    assert [] == receiver.spans
    assert 40 <= looped.server.telemetry._tracing.dropped["export_failed"]
