"""Spans as a collector receives them, and what happens to them without a collector."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

from container_manager.observability import tracing as module
from container_manager.observability.accounting import Method
from container_manager.observability.tracing import CallSpans, Tracing
from tests.support.span_receiver import ERROR, UNSET, SpanReceiver, attributes
from tests.support.waiting import wait_until

SERVICE = "botmaker.container.v1.ContainerManager"
CHANGE = Method(f"/{SERVICE}/StopContainer")
READ = Method(f"/{SERVICE}/GetContainerStatus", read=True)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-{flag}") for flag in ("01", "00"))
STARTED, ENDED = 1_790_000_000_123_456_789, 1_790_000_000_223_456_789


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nothing listens there, and nothing can."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(autouse=True)
def first_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no warning had been logged before, which the SDK does not repeat either."""
    logging.getLogger(module._EXPORTER_LOG).error("none")
    monkeypatch.setattr(module._once_a_minute, "last", float("-inf"))


def trace(port: int, use: Callable[[Tracing], Any], *, seconds: float = 60) -> Tracing:
    """Use a tracing, wait for what the use returns, and stop it within ``seconds``."""

    async def run() -> Tracing:
        tracing = Tracing(f"127.0.0.1:{port}")
        tracing.start()
        try:
            found = use(tracing)
            if isinstance(found, Awaitable):
                await found
        finally:
            await tracing.stop(seconds)
        return tracing

    return asyncio.run(run())


def call(tracing: Tracing, method: Method = CHANGE, code: str = "OK", *metadata: tuple[str, str]) -> CallSpans:
    """A call that has ended, with one call to the engine."""
    spans = tracing.start_call(method, metadata, STARTED)
    spans.engine_call("inspect_container", "not_found", STARTED + 1, ENDED - 1)
    spans.end(code, "b-1", "r-1", ENDED)
    return spans


def sent(receiver: SpanReceiver, *args: Any) -> list[Any]:
    """The spans of one call."""
    trace(receiver.port, lambda tracing: call(tracing, *args))
    return sorted(receiver.spans, key=lambda span: span.start_time_unix_nano)


@pytest.mark.parametrize("state", ["2026-01-01T00:00:00Z [error    ] a caller's text", "=", "a" * 300 + "=1", "x=\x01"])
def test_what_a_caller_sends_as_its_trace_is_not_logged(
    receiver: SpanReceiver, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, _ = sent(receiver, CHANGE, "OK", SAMPLED, ("tracestate", state))
    assert bytes.fromhex(TRACE) == server.trace_id
    assert "" == caplog.text


@pytest.mark.parametrize(
    ("code", "number", "status"),
    [
        ("OK", 0, UNSET),
        ("CANCELLED", 1, UNSET),
        ("NOT_FOUND", 5, UNSET),
        ("DEADLINE_EXCEEDED", 4, ERROR),
        ("INTERNAL", 13, ERROR),
        ("UNAVAILABLE", 14, ERROR),
    ],
)
def test_a_change_has_a_span_with_the_engines_calls_below_it(
    receiver: SpanReceiver, code: str, number: int, status: int
) -> None:
    server, client = sent(receiver, CHANGE, code)
    assert (f"{SERVICE}/StopContainer", server.SPAN_KIND_SERVER) == (server.name, server.kind)
    assert (STARTED, ENDED, b"", status) == (
        server.start_time_unix_nano,
        server.end_time_unix_nano,
        server.parent_span_id,
        server.status.code,
    )
    assert {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "StopContainer",
        "rpc.grpc.status_code": number,
        "botmaker.request_id": "r-1",
        "botmaker.bot_id": "b-1",
    } == attributes(server)
    assert ("engine inspect_container", client.SPAN_KIND_CLIENT) == (client.name, client.kind)
    assert (server.trace_id, server.span_id, UNSET) == (client.trace_id, client.parent_span_id, client.status.code)
    assert {
        "botmaker.engine.operation": "inspect_container",
        "botmaker.engine.outcome": "not_found",
    } == attributes(client)


def test_a_failed_call_to_the_engine_is_an_error(receiver: SpanReceiver) -> None:
    trace(receiver.port, lambda tracing: tracing.start_call(CHANGE, (), 1).engine_call("ping", "timeout", 2, 3))
    assert [ERROR] == [span.status.code for span in receiver.spans]


def test_a_successful_read_has_a_span_only_in_its_callers_trace(receiver: SpanReceiver) -> None:
    assert [] == sent(receiver, READ, "OK")
    server, client = sent(receiver, READ, "OK", SAMPLED, ("tracestate", "vendor=a"))
    assert (TRACE, PARENT, "vendor=a") == (server.trace_id.hex(), server.parent_span_id.hex(), server.trace_state)
    assert server.span_id == client.parent_span_id


def test_a_failed_read_has_a_span_with_the_engines_calls_below_it(receiver: SpanReceiver) -> None:
    server, client = sent(receiver, READ, "UNAVAILABLE")
    assert (STARTED, ENDED) == (server.start_time_unix_nano, server.end_time_unix_nano)
    assert (server.span_id, STARTED + 1) == (client.parent_span_id, client.start_time_unix_nano)


@pytest.mark.parametrize("method", [CHANGE, READ])
@pytest.mark.parametrize("code", ["OK", "INTERNAL"])
def test_a_trace_that_its_caller_does_not_record_has_no_spans(
    receiver: SpanReceiver, method: Method, code: str
) -> None:
    assert [] == sent(receiver, method, code, UNSAMPLED)


@pytest.mark.parametrize("header", ["", "nonsense", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"])
def test_an_invalid_traceparent_counts_as_none(receiver: SpanReceiver, header: str) -> None:
    assert [] == sent(receiver, READ, "OK", ("traceparent", header))
    server, _ = sent(receiver, CHANGE, "OK", ("traceparent", header))
    assert b"" == server.parent_span_id


def test_a_long_tracestate_is_not_passed_on(receiver: SpanReceiver) -> None:
    state = ",".join(f"vendor{number}={'a' * 167}" for number in range(3))
    for header, passed_on in ((state[:512], state[:512]), (state, "")):
        receiver.requests.clear()
        server, _ = sent(receiver, CHANGE, "OK", SAMPLED, ("tracestate", header))
        assert (TRACE, passed_on) == (server.trace_id.hex(), server.trace_state)


def test_the_logs_trace_id_is_that_of_the_spans(receiver: SpanReceiver) -> None:
    ids: list[str] = []

    def use(tracing: Tracing) -> None:
        calls = [(CHANGE, "OK"), (READ, "INTERNAL"), (READ, "OK"), (CHANGE, "OK", UNSAMPLED)]
        ids.extend(call(tracing, *each).trace_id for each in calls)

    trace(receiver.port, use)
    found = [span.trace_id.hex() for span in receiver.spans if span.kind == span.SPAN_KIND_SERVER]
    assert [*found, "", ""] == ids


def test_the_environment_describes_the_process(receiver: SpanReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sent(receiver)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bots")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    sent(receiver)
    plain, described = (attributes(request.resource_spans[0].resource) for request in receiver.requests)
    assert "container-manager" == plain["service.name"]
    assert ("bots", "test") == (described["service.name"], described["deployment.environment.name"])
    assert "service.version" in described


def test_spans_are_counted(receiver: SpanReceiver) -> None:
    tracing = trace(receiver.port, lambda tracing: [call(tracing) for _ in range(600)])
    assert (1200, 1200, 0) == (len(receiver.spans), tracing.exported, sum(tracing.dropped.values()))


def test_spans_that_the_collector_refuses_are_dropped_and_counted(receiver: SpanReceiver) -> None:
    receiver.refusal = grpc.StatusCode.INVALID_ARGUMENT
    tracing = trace(receiver.port, call)
    assert (0, {"queue_full": 0, "export_failed": 2}) == (tracing.exported, tracing.dropped)


def test_spans_wait_for_a_collector_that_is_down(receiver: SpanReceiver) -> None:
    receiver.refusal = grpc.StatusCode.UNAVAILABLE

    async def use(tracing: Tracing) -> None:
        call(tracing)
        await asyncio.to_thread(wait_until, lambda: receiver.refused, "an export fails")
        receiver.refusal = None
        await asyncio.to_thread(receiver.await_spans, lambda _: True, 2)

    tracing = trace(receiver.port, use)
    assert (2, 0) == (tracing.exported, sum(tracing.dropped.values()))


def test_without_a_collector_there_is_one_warning_and_the_queue_is_bounded(
    unused_port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUE", 600)

    async def use(tracing: Tracing) -> None:
        call(tracing)
        await asyncio.to_thread(wait_until, lambda: caplog.records, "a warning is logged")
        for _ in range(400):
            call(tracing)
        assert {"queue_full": 202, "export_failed": 0} == tracing.dropped

    with caplog.at_level(logging.INFO):
        tracing = trace(unused_port, use, seconds=0)
    (record,) = caplog.records
    assert f"StatusCode.UNAVAILABLE encountered while exporting traces to 127.0.0.1:{unused_port}" in record.message
    assert (0, {"queue_full": 202, "export_failed": 600}) == (tracing.exported, tracing.dropped)


def test_a_collector_that_hangs_does_not_delay_the_end(
    receiver: SpanReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.gate.clear()

    async def use(tracing: Tracing) -> None:
        call(tracing)
        await asyncio.to_thread(receiver.asked.wait, 60)
        call(tracing)

    tracing = trace(receiver.port, use, seconds=0.05)
    # The end has cut the export short, before its own timeout did.
    assert ["StatusCode.CANCELLED" in record.message for record in caplog.records] == [True]
    assert (0, 4) == (tracing.exported, tracing.dropped["export_failed"])


def test_nothing_is_left_running(receiver: SpanReceiver) -> None:
    before = set(threading.enumerate())
    trace(receiver.port, call)
    assert [] == [thread.name for thread in set(threading.enumerate()) - before if "Otel" in thread.name]


def test_a_call_never_waits_for_the_collector(receiver: SpanReceiver) -> None:
    receiver.gate.clear()

    def use(tracing: Tracing) -> None:
        before = time.perf_counter()
        for _ in range(1000):
            call(tracing)
        # One that waited would wait for the exporter's time-out of 10 s.
        assert time.perf_counter() - before < 9

    trace(receiver.port, use, seconds=0.05)


def test_credentials_in_headers_are_sent_and_logged_nowhere(
    receiver: SpanReceiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hush-1")
    with caplog.at_level(logging.DEBUG):
        sent(receiver)
        assert "hush-1" in [value for key, value in receiver.metadata if key == "authorization"]
        # OpenTelemetry refuses the first, gRPC the second.
        for headers in ("hush-2", "key=hush%0A3"):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
            trace(receiver.port, call)
    assert re.search("Failed to export traces|spans cannot be exported", caplog.text)
    assert "hush" not in caplog.text


def test_an_unexpected_error_of_an_export_is_logged_without_its_text_and_counted(
    receiver: SpanReceiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("hush")

    monkeypatch.setattr(module.OTLPSpanExporter, "export", fail)
    tracing = trace(receiver.port, call)
    assert ["unexpected error: spans cannot be exported: ValueError"] == [record.message for record in caplog.records]
    assert 2 == tracing.dropped["export_failed"]
