"""A server for tests of its log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import grpc
import pytest

from container_manager.config import ServerConfig
from container_manager.observability import metrics_endpoint
from tests.support.fake_engine import FakeEngine, Json, Stream
from tests.support.scraping import ended, scrape
from tests.support.serving import LoopedServer, looped_server
from tests.support.waiting import wait_until

Serve = Callable[..., Any]


def serving(fake: FakeEngine, build: Callable[..., ServerConfig], address: str) -> Serve:
    """Serves at ``address`` by default, with metrics, on an engine without containers."""
    fake.on("GET", "/containers/json", Json([]))
    fake.on("GET", "/events", Stream(_silence(fake)))

    @contextmanager
    def running_service(*listen: str, **further: Any) -> Iterator[LoopedServer]:
        config = build(*(listen or (address,)), metrics_listen="127.0.0.1:0", **further)
        with looped_server(config) as looped:
            yield looped

    return running_service


def _silence(fake: FakeEngine) -> Iterator[None]:
    """An event stream without events that lasts as long as the engine."""
    fake._released.wait()
    yield from ()


@contextmanager
def channel_to(looped: LoopedServer) -> Iterator[grpc.Channel]:
    """A plain gRPC channel, without our client."""
    target = looped.server.addresses[0].replace("unix://", "unix:").removeprefix("tcp://")
    with grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")]) as channel:
        yield channel


def await_sync(looped: LoopedServer) -> None:
    """Wait until the live view answers reads."""
    wait_until(lambda: looped.server.keeper.view.in_sync, "the view is in sync", 60)


def metrics(looped: LoopedServer) -> str:
    """The metrics that it exposes now."""
    with patch.object(metrics_endpoint, "KEPT_SECONDS", 0):
        return scrape(looped.server.telemetry.metrics_url)


def await_ended(looped: LoopedServer, method: str, code: str, count: int = 1) -> None:
    """Wait until exactly ``count`` calls of the method have ended with this code."""
    wait_until(lambda: ended(metrics(looped), method, code) == count, f"{count} {method} {code}", 60)


def call_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines about calls in the log so far."""
    found = [record.msg for record in list(caplog.records) if isinstance(record.msg, dict)]
    return [line for line in found if line["event"] == "call"]
