"""The client's channels: targets, TLS files, tokens, and no connection before the first call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from container_manager_client import TlsFiles, channel, connect, connect_aio
from tests.unit.refusing_service import Servicer, serving


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def target(servicer: Servicer) -> Iterator[str]:
    with serving(servicer) as target:
        yield target


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost:1",
        "unix:a",
        "unix:/a",
        "unix://a",
        "tcp://a",
        "tcp://a:",
        "tcp://a:x",
        "tcp://a:65536",
        "http://a:1",
        "dns:a:1",
    ],
)
def test_another_form_of_target_is_refused_by_its_text(open_channel: Callable[[str], Any], target: str) -> None:
    with pytest.raises(ValueError, match="is not a valid target: use unix:///path or tcp://host:port") as caught:
        open_channel(target)
    assert repr(target) in str(caught.value)


def test_a_channel_connects_at_its_first_call_and_starts_no_thread_before(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start, caller = threading.Thread.start, threading.current_thread()

    def noted(thread: threading.Thread) -> None:
        if threading.current_thread() is caller:
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    connect(target).close()
    assert [] == started


PEM = b"-----BEGIN CERTIFICATE-----"


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
@pytest.mark.parametrize("name", ["ca", "cert", "key"])
def test_tls_files_without_pem_are_refused_by_their_name(open_channel: Callable[..., Any], name: str) -> None:
    files = TlsFiles(**{"ca": PEM, "cert": PEM, "key": PEM, name: b"secret"})
    with pytest.raises(ValueError, match=rf"tls\.{name}: the bytes must be in PEM form"):
        open_channel("tcp://127.0.0.1:1", tls=files)


def test_tls_files_that_are_missing_are_an_os_error() -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        connect("tcp://127.0.0.1:1", tls=TlsFiles(PEM, PEM, "/nowhere"))


def test_a_unix_socket_has_no_tls() -> None:
    with pytest.raises(ValueError, match="is a unix socket: TLS is for TCP targets only"):
        connect("unix:///s.sock", tls=TlsFiles(PEM, PEM, PEM))


def test_a_token_goes_to_another_machine_over_tls_alone() -> None:
    connect("tcp://192.0.2.1:1", token="secret-token", tls=TlsFiles(PEM, PEM, PEM)).close()
    with pytest.raises(ValueError, match="without TLS the token would be sent in plain text"):
        connect("tcp://192.0.2.1:1", token="secret-token")


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
@pytest.mark.parametrize("token", ["secret\n", "secret\0", "secret\x7f", "s\u00e9cret", "secret\ud800"])
def test_a_token_that_grpc_cannot_send_is_refused_and_not_shown(open_channel: Callable[..., Any], token: str) -> None:
    for target in ("unix:///s.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(ValueError, match="the token is not one line of printable ASCII") as caught:
            open_channel(target, token=token)
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize("open_channel", [connect, connect_aio])
def test_a_socket_whose_path_is_too_long_is_refused(open_channel: Callable[..., Any]) -> None:
    for path in ("/" + 107 * "a", "/" + 54 * "\u00e9"):
        with pytest.raises(ValueError, match="at most 107 bytes"):
            open_channel(f"unix://{path}")


def test_a_key_is_not_shown_by_its_files() -> None:
    assert "TlsFiles(...)" == repr(TlsFiles(PEM, PEM, b"secret"))


def test_the_last_retry_of_a_restart_of_three_seconds_finds_the_channel_connected() -> None:
    """gRPC takes up to a fifth off the waits between retries, and adds up to a fifth to those between connections."""
    policy = json.loads(channel.SERVICE_CONFIG)["methodConfig"][0]["retryPolicy"]
    first, longest = (float(policy[name].removesuffix("s")) for name in ("initialBackoff", "maxBackoff"))
    waits = [min(first * policy["backoffMultiplier"] ** n, longest) for n in range(policy["maxAttempts"] - 1)]
    reconnects = 1.2 * dict(channel._OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000
    assert 0.8 * sum(waits) - reconnects >= 3
