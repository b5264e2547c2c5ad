"""One table says all about streams: limits, refusals, HTTP/2 streams and metrics follow from a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import ServerConfig
from container_manager.rpc import server, stream_kinds
from container_manager.rpc.listeners.server_factory import transport_options
from container_manager.scheduling.streams import StreamKind
from container_manager_client import connect
from tests.support.calls import Calls, fails_with
from tests.support.memory_backend import MemoryBackend
from tests.support.scraping import scrape, value
from tests.support.serving import looped_server

BuildConfig = Callable[..., ServerConfig]


def test_every_streaming_rpc_has_exactly_one_row() -> None:
    served = [
        f"/{service.full_name}/{method.name}"
        for service in server._ALL_SERVICES
        for method in service.methods
        if method.client_streaming or method.server_streaming
    ]
    assert len(served) >= 5
    assert sorted(served) == sorted(method for kind in stream_kinds.STREAM_KINDS for method in kind.methods)
    assert len(stream_kinds.STREAM_KINDS) == len({kind.label for kind in stream_kinds.STREAM_KINDS})


def test_a_further_row_is_limited_counted_in_metrics_and_in_the_streams_of_a_connection(
    server_config: BuildConfig, memory: MemoryBackend, session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = server_config(f"unix://{session_dir}/kinds/s.sock", metrics_listen="127.0.0.1:0")
    before = dict(transport_options(config))["grpc.max_concurrent_streams"]
    method = "/botmaker.container.v1.ContainerManager/ListManagedContainers"
    row = StreamKind("invented", "invented streams", (method,), lambda config: config.max_watchers - 1000)
    monkeypatch.setattr(stream_kinds, "STREAM_KINDS", (*stream_kinds.STREAM_KINDS, row))
    with looped_server(config, backend=memory.opened) as looped, connect(looped.server.addresses[0]) as channel:
        with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED") as caught:
            Calls(ContainerManagerStub(channel)).list()
        assert "there are 0 invented streams already" in caught[0].message
        text = scrape(looped.server.telemetry.metrics_url)
        assert 0 == value(text, "container_manager_streams_open", kind="invented")
        assert 'kind="invented"' in text
    larger = StreamKind("larger", "larger streams", ("/a.B/C",), lambda config: config.max_watchers + 5)
    monkeypatch.setattr(stream_kinds, "STREAM_KINDS", (*stream_kinds.STREAM_KINDS, larger))
    assert before + config.max_watchers + 5 == dict(transport_options(config))["grpc.max_concurrent_streams"]
