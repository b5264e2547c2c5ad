"""The HTTP side of metrics: what it answers, and what it takes from its clients."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Gauge

from container_manager.errors import AddressInUseError, StartupError
from container_manager.observability import metrics_endpoint
from container_manager.observability.metrics_endpoint import MAX_CONNECTIONS, MetricsEndpoint, metrics_address
from container_manager.sockets import watch
from tests.support.scraping import ask, value

Use = Callable[[str], Awaitable[Any]]


def serve(use: Use, *, metrics: int = 1) -> Any:
    """Use an endpoint by its URL while it is served; what the use returned."""

    async def run() -> Any:
        registry = CollectorRegistry()
        for number in range(metrics):
            Gauge(f"answer_{number}", "It.", registry=registry).set(42)
        endpoint = MetricsEndpoint(metrics_address("127.0.0.1:0"), registry, lambda: None)
        url = await endpoint.start()
        try:
            async with asyncio.timeout(60):
                return await use(url)
        finally:
            await endpoint.close()

    return asyncio.run(run())


def answered(method: str = "GET", path: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
    """What one request is answered with."""

    async def use(url: str) -> Any:
        return await asyncio.to_thread(ask, url, method, path, **headers)

    answer: tuple[int, dict[str, str], str] = serve(use)
    return answer


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


def is_open(client: socket.socket) -> bool:
    """Whether the endpoint has not ended it; nothing is ever sent."""
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def test_metrics_are_text_unless_openmetrics_is_asked_for() -> None:
    status, headers, body = answered()
    assert (200, "text/plain") == (status, headers["content-type"].partition(";")[0])
    assert "answer_0 42.0" in body
    assert "# EOF" not in body
    status, headers, body = answered(Accept="application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert (200, "application/openmetrics-text") == (status, headers["content-type"].partition(";")[0])
    assert body.endswith("# EOF\n")


@pytest.fixture
def rendered() -> Callable[..., list[float]]:
    """Asks one endpoint with each of these ``Accept`` headers; the number of the rendering that each gets."""

    def asked(*accepted: str, pause_seconds: float = 0) -> list[float]:
        async def run() -> list[float]:
            registry, numbers = CollectorRegistry(), []
            number = Gauge("number", "It.", registry=registry)
            endpoint = MetricsEndpoint(metrics_address("127.0.0.1:0"), registry, number.inc)
            url = await endpoint.start()
            try:
                for accept in accepted:
                    _, _, text = await asyncio.to_thread(ask, url, Accept=accept)
                    numbers.append(value(text, "number"))
                    await asyncio.sleep(pause_seconds)
            finally:
                await endpoint.close()
            return numbers

        return asyncio.run(run())

    return asked


def test_all_who_ask_for_a_format_share_one_rendering_whatever_version_they_name(
    rendered: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the machine may ask, in a loop."""
    monkeypatch.setattr(metrics_endpoint, "KEPT_SECONDS", 600)
    text = ("", "text/plain", "text/plain; version=1.0.0; escaping=dots", "application/json")
    versions = ("", "; version=1.0.0", "; version=9.9.9; escaping=dots", "; version=none")
    assert [1.0] * 4 + [2.0] * 4 == rendered(*text, *(f"application/openmetrics-text{each}" for each in versions))


def test_a_rendering_is_shared_for_a_moment_only(
    rendered: Callable[..., list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_endpoint, "KEPT_SECONDS", 0.01)
    assert [1.0, 2.0, 3.0] == rendered("", "", "", pause_seconds=0.02)


def test_a_head_request_has_no_body() -> None:
    status, headers, body = answered("HEAD")
    assert (200, "") == (status, body)
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/..", "/%6detrics%00", "/favicon.ico"])
def test_any_other_path_is_404(path: str) -> None:
    assert 404 == answered(path=path)[0]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_any_other_method_is_405(method: str) -> None:
    status, headers, _ = answered(method)
    assert (405, "GET, HEAD") == (status, headers["allow"])


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno header\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["TLS", "half a line", "bad header", "long header", "long path"],
)
def test_a_malformed_scrape_is_400_and_logged_without_a_traceback(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(url: str) -> bytes:
        reader, writer = await connect(url)
        writer.write(request_bytes)
        answer = await reader.read()
        writer.close()
        return answer

    with caplog.at_level(logging.DEBUG):
        assert serve(use).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    told = [record for record in caplog.records if record.name == metrics_endpoint.__name__]
    assert ["refused a request for metrics that is not HTTP"] == [record.message for record in told]
    assert not any(record.exc_info for record in caplog.records)


def test_clients_that_say_nothing_or_read_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the test takes: it is their number that ends them.
    monkeypatch.setattr(metrics_endpoint, "_CONNECTION_SECONDS", 600)

    async def use(url: str) -> int:
        # Far more than the socket's buffers hold is asked for, and none of it read.
        held = [await connect(url) for _ in range(MAX_CONNECTIONS * 2)]
        for _, writer in held[::2]:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, _ = await asyncio.to_thread(ask, url)
        # The oldest have made room.
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await held[1][0].readexactly(1)
        for _, writer in held:
            writer.close()
        return status

    assert 200 == serve(use, metrics=2_000)


def test_connections_that_come_all_at_once_are_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "_CONNECTION_SECONDS", 600)
    count = MAX_CONNECTIONS * 4

    async def use(url: str) -> int:
        parts = urlsplit(url)
        with ExitStack() as opened:
            burst = [opened.enter_context(socket.socket()) for _ in range(count)]
            for client in burst:
                # Blocking, so that all of them wait when the endpoint gets to accept them.
                client.connect((parts.hostname, parts.port))
                client.settimeout(0)
            # One that is accepted after them all, and so takes one more place.
            _, writer = await connect(url)
            alive = sum(map(is_open, burst))
            while alive >= MAX_CONNECTIONS:
                alive = await asyncio.to_thread(lambda: sum(map(is_open, burst)))
            writer.close()
        return alive

    assert MAX_CONNECTIONS - 1 == serve(use)


def test_a_connection_ends_in_time_whatever_its_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "_CONNECTION_SECONDS", 0.1)

    async def use(url: str) -> int:
        reader, writer = await connect(url)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: ")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        status, _, _ = await asyncio.to_thread(ask, url)
        return status

    assert 200 == serve(use)


def test_a_connection_that_is_accepted_as_the_endpoint_closes_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_endpoint, "_CONNECTION_SECONDS", 600)

    async def run() -> None:
        endpoint = MetricsEndpoint(metrics_address("127.0.0.1:0"), CollectorRegistry(), lambda: None)
        accepted = asyncio.Event()
        make_handler = metrics_endpoint._Connections.__call__

        def accept(connections: metrics_endpoint._Connections) -> Any:
            accepted.set()
            return make_handler(connections)

        monkeypatch.setattr(metrics_endpoint._Connections, "__call__", accept)
        connecting = asyncio.create_task(connect(await endpoint.start()))
        async with asyncio.timeout(60):
            # Awoken before the handler is told of its connection.
            await accepted.wait()
            await endpoint.close()
            reader, writer = await connecting
            with suppress(ConnectionError):
                assert b"" == await reader.read()
            writer.close()

    asyncio.run(run())


def unix_endpoint(path: Path) -> MetricsEndpoint:
    registry = CollectorRegistry()
    Gauge("answer_0", "It.", registry=registry).set(42)
    return MetricsEndpoint(metrics_address(f"unix://{path}"), registry, lambda: None)


async def asked_at(path: Path) -> bytes:
    """What the socket answers to a scrape."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_a_unix_socket_serves_them_to_all_who_enter_its_directory_and_is_removed_at_the_end(session_dir: Path) -> None:
    path = session_dir / "metrics" / "m.sock"

    async def run() -> tuple[str, int, bytes]:
        endpoint = unix_endpoint(path)
        shown = await endpoint.start()
        try:
            return shown, path.stat().st_mode, await asked_at(path)
        finally:
            await endpoint.close()

    shown, mode, answer = asyncio.run(run())
    assert (f"unix://{path}", "0o666", True) == (shown, oct(stat.S_IMODE(mode)), b"\nanswer_0 42.0\n" in answer)
    assert [] == list(path.parent.iterdir())


def test_a_unix_socket_that_another_service_has_is_a_startup_error(session_dir: Path) -> None:
    path = session_dir / "metrics" / "taken.sock"

    async def run() -> bytes:
        first = unix_endpoint(path)
        await first.start()
        second = unix_endpoint(path)
        try:
            with pytest.raises(AddressInUseError, match=rf"--metrics-listen: {path} is in use"):
                await second.start()
            await second.close()
            return await asked_at(path)
        finally:
            await first.close()

    assert b"answer_0 42.0" in asyncio.run(run())


def test_a_unix_socket_that_was_deleted_is_bound_again(session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CHECK_INTERVAL_SECONDS", 0.001)
    path = session_dir / "metrics" / "deleted.sock"

    async def run() -> bytes:
        endpoint = unix_endpoint(path)
        await endpoint.start()
        try:
            path.unlink()
            async with asyncio.timeout(60):
                while not path.exists():  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(0.001)
                return await asked_at(path)
        finally:
            await endpoint.close()

    assert b"answer_0 42.0" in asyncio.run(run())


def test_a_port_in_use_is_a_startup_error() -> None:
    async def start(address: str) -> None:
        await MetricsEndpoint(metrics_address(address), CollectorRegistry(), lambda: None).start()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match=f"cannot listen on {re.escape(address)}: Address already in use"):
            asyncio.run(start(address))


@pytest.mark.parametrize("text", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "[2001:db8::1]:1"])
def test_an_address_that_is_not_loopback_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match="is not a loopback address"):
        metrics_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "9464", ":9464", "localhost:9464", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1", "unix:/x", "a\0:1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(StartupError, match=r"is not .*PORT or unix:"):
        metrics_address(text)


def test_ipv6_is_written_in_brackets() -> None:
    assert ("::1", 9464) == (metrics_address("[::1]:9464").host, metrics_address("[::1]:9464").port)
