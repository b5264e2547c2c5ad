"""The exporter's thread: nobody waits for it, nothing is lost in silence, and it ends when it is told to."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from container_manager.observability import span_exporter
from container_manager.observability.span_encoding import SpanEncoder
from container_manager.observability.span_exporter import MAX_QUEUE, SpanExporter
from container_manager.observability.spans import CallSpan
from container_manager.observability.trace_context import TraceContext
from tests.support.span_receiver import SpanReceiver
from tests.support.waiting import wait_until


def span(number: int = 1) -> CallSpan:
    return CallSpan(TraceContext(1, number), "s", "m", "OK", "", f"r-{number}", 1, 2)


@contextmanager
def exporting(port: int, *, close_seconds: float = 60) -> Iterator[SpanExporter]:
    exporter = SpanExporter(f"127.0.0.1:{port}", SpanEncoder(), interval_seconds=0.01)
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.close(close_seconds)
        # It may be in the middle of something on a machine under load.
        assert exporter._thread is not None
        exporter._thread.join(60)
        assert not exporter._thread.is_alive()


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Where nobody listens, nor can."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_exporter, "_FIRST_RETRY_SECONDS", 0.01)


def test_spans_are_sent_in_order_and_counted(receiver: SpanReceiver) -> None:
    with exporting(receiver.port) as exporter:
        for number in range(1, 1201):
            exporter.add(span(number))
        receiver.await_spans(lambda _: True, 1200)
    assert list(range(1, 1201)) == [int.from_bytes(each.span_id) for each in receiver.spans]
    assert (1200, 0) == (exporter.exported, exporter.dropped.total())


def test_what_waits_at_the_end_is_sent(receiver: SpanReceiver) -> None:
    exporter = SpanExporter(f"127.0.0.1:{receiver.port}", SpanEncoder(), interval_seconds=600)
    exporter.start()
    exporter.add(span())
    exporter.close(60)
    assert 1 == len(receiver.spans)


def test_a_collector_that_is_away_is_waited_for(receiver: SpanReceiver) -> None:
    receiver.refusal = grpc.StatusCode.UNAVAILABLE
    with exporting(receiver.port) as exporter:
        exporter.add(span())
        wait_until(lambda: exporter._warned_at, "it has been tried", 60)
        receiver.refusal = None
        receiver.await_spans(lambda _: True)
    assert (1, 0) == (exporter.exported, exporter.dropped.total())


def test_without_a_collector_one_warning_is_logged_and_the_queue_is_bounded(
    unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with exporting(unused_port, close_seconds=0.1) as exporter, caplog.at_level(logging.INFO):
        exporter.add(span())
        wait_until(lambda: exporter._warned_at, "it has been tried", 60)
        for number in range(MAX_QUEUE + 100):
            exporter.add(span(number + 1))
        assert 100 <= exporter.dropped["queue_full"] <= 101
        assert MAX_QUEUE == len(exporter._queue)
    assert ["spans cannot be delivered; calls are served as ever"] == [
        record.msg["event"] if isinstance(record.msg, dict) else record.msg for record in caplog.records
    ]
    # The one that was tried, and those that waited.
    assert MAX_QUEUE + 101 == exporter.dropped.total()
    assert 0 == exporter.exported


def test_what_the_collector_will_not_have_is_dropped(receiver: SpanReceiver) -> None:
    receiver.refusal = grpc.StatusCode.INVALID_ARGUMENT
    with exporting(receiver.port) as exporter:
        exporter.add(span())
        wait_until(lambda: exporter.dropped["refused"] == 1, "it is dropped", 60)
        receiver.refusal = None
        exporter.add(span(2))
        receiver.await_spans(lambda _: True)


@pytest.mark.parametrize(("rejected", "refused"), [(2, 2), (99, 5), (-1, 0)])
def test_what_the_collector_refuses_of_an_export_is_dropped_and_the_rest_exported(
    receiver: SpanReceiver, rejected: int, refused: int
) -> None:
    receiver.rejected = rejected
    exporter = SpanExporter(f"127.0.0.1:{receiver.port}", SpanEncoder(), interval_seconds=600)
    exporter.start()
    for number in range(5):
        exporter.add(span(number + 1))
    exporter.close(60)
    assert 1 == len(receiver.requests)
    assert (5 - refused, refused) == (exporter.exported, exporter.dropped["refused"])
    assert refused == exporter.dropped.total()


def test_a_collector_that_hangs_does_not_hold_up_the_end(receiver: SpanReceiver) -> None:
    receiver.gate.clear()
    with exporting(receiver.port, close_seconds=0.05) as exporter:
        exporter.add(span())
        wait_until(lambda: not exporter._queue, "it is under way", 60)
        exporter.add(span(2))
    assert (0, {"shutdown": 2}) == (exporter.exported, {k: v for k, v in exporter.dropped.items() if v})


def test_after_the_end_spans_are_dropped(receiver: SpanReceiver) -> None:
    with exporting(receiver.port) as exporter:
        pass
    exporter.add(span())
    assert 1 == exporter.dropped["shutdown"]


def test_adding_a_span_waits_for_nothing(receiver: SpanReceiver) -> None:
    receiver.gate.clear()
    with exporting(receiver.port, close_seconds=0.05) as exporter:
        begun = time.thread_time()
        for number in range(2 * MAX_QUEUE):
            exporter.add(span(number + 1))
        # Of this thread's own CPU; generous.
        assert time.thread_time() - begun < 10
