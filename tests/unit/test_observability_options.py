"""The options of metrics and traces: refusals, warnings, and the doctor's findings."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_manager.bot_directories import RootDirectory
from container_manager.cli.server_config import machine_tracing
from container_manager.config import BackendConfig, ServerConfig, TracingConfig
from container_manager.doctor import Verdict
from container_manager.doctor.observability_checks import check_metrics, check_tracing
from container_manager.errors import StartupError
from container_manager.observability import otlp_target as module
from container_manager.observability.otlp_target import otlp_target
from container_manager.observability.telemetry import Telemetry

GOOD = "http://127.0.0.1:4317"


def config(tmp_path: Path, **further: Any) -> ServerConfig:
    root = RootDirectory(tmp_path, tmp_path)
    return ServerConfig(service=BackendConfig(secrets_root=root), listen=(), **further)


def ours(endpoint: str) -> TracingConfig:
    return TracingConfig(endpoint, "--otlp-endpoint")


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra."""
    monkeypatch.setattr(module, "_PACKAGES", ("opentelemetry_not_installed.sdk",))


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [(GOOD, "127.0.0.1:4317"), ("http://collector.example:1/", "collector.example:1"), ("http://[::1]:2", "[::1]:2")],
)
def test_an_endpoint_is_a_host_and_a_port(endpoint: str, target: str) -> None:
    assert target == otlp_target(ours(endpoint))


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:4317",
        "https://127.0.0.1:4317",
        "http://127.0.0.1",
        "http://:4317",
        "http://h:70000",
        "http://h:x",
        "http://h:0",
        "http://h:1/v1/traces",
        "http://u@h:1",
        "http://@h:1",
        "http://a..b:1",
        f"http://{'a' * 64}:1",
        "http://h:1?q",
        "grpc://h:1",
        "http://h\n:1",
        "http://[::1",
    ],
)
def test_an_option_that_is_no_endpoint_keeps_it_from_starting(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(StartupError, match="is not an address"):
        Telemetry(config(tmp_path, tracing=ours(endpoint)), (), ())


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_the_option_keeps_it_from_starting_and_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--otlp-endpoint needs the extra 'tracing'"):
        Telemetry(config(tmp_path, tracing=ours(GOOD)), (), ())


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "nonsense"}, "OTEL_EXPORTER_OTLP_ENDPOINT: 'nonsense' is not an address"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://h:1"}, "_TRACES_ENDPOINT: 'https://h:1' is not"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": GOOD, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "not 'http/protobuf'"),
    ],
)
def test_a_setting_of_the_machine_that_is_none_is_a_warning_and_there_are_no_traces(
    tmp_path: Path, environment: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        telemetry = Telemetry(config(tmp_path, tracing=machine_tracing(environment)), (), ())
    assert telemetry.engine_observer is None
    (record,) = caplog.records
    assert told in str(record.msg)


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_a_setting_of_the_machine_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Telemetry(config(tmp_path, tracing=machine_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": GOOD})), (), ())
    assert "needs the extra 'tracing'" in str(caplog.records[0].msg)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none of these"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "few"),
    ],
)
def test_a_variable_that_opentelemetry_cannot_use_prevents_the_start_with_the_option_and_traces_without_it(
    tmp_path: Path, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match="--otlp-endpoint: OpenTelemetry does not start: "):
        Telemetry(config(tmp_path, tracing=ours(GOOD)), (), ())
    machine = TracingConfig(GOOD, "OTEL_EXPORTER_OTLP_ENDPOINT", required=False)
    assert Telemetry(config(tmp_path, tracing=machine), (), ()).engine_observer is None
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: OpenTelemetry does not start: " in str(caplog.records[-1].msg)


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a"}, "a"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "b"}, "b"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a", "OTEL_SDK_DISABLED": "TRUE"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "a", "OTEL_TRACES_EXPORTER": "otlp"}, "a"),
    ],
)
def test_the_machines_settings_are_heeded(environment: dict[str, str], endpoint: str | None) -> None:
    found = machine_tracing(environment)
    assert endpoint == (None if found is None else found.endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://u:hush@h:4317",
        "http://:hush@h:4317",
        "http://u:hu@sh/hush@h:4317",
        "u:hush@h:4317",
        "http://hush@h:4317",
    ],
)
def test_an_endpoint_with_credentials_is_refused_and_they_are_shown_nowhere(
    tmp_path: Path, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StartupError, match=r"'\.\.\.@h:4317' is not an address") as refused:
        Telemetry(config(tmp_path, tracing=ours(endpoint)), (), ())
    found = asyncio.run(check_tracing(ours(endpoint)))
    with caplog.at_level(logging.DEBUG):
        Telemetry(config(tmp_path, tracing=machine_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})), (), ())
    assert "@h:4317" in str(caplog.records[0].msg)
    assert "hush" not in f"{refused.value} {found} {caplog.records[0].msg} {caplog.text}"


def test_the_doctor_finds_a_host_that_cannot_be_looked_up() -> None:
    found = asyncio.run(check_tracing(ours("http://a..b:4317")))
    assert (Verdict.FAILED, True) == (found.verdict, "'http://a..b:4317' is not an address" in found.detail)


def test_metrics_off_loopback_keep_it_from_starting(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="is not a loopback address"):
        Telemetry(config(tmp_path, metrics_listen="0.0.0.0:9464"), (), ())


def test_nothing_is_observed_unless_it_is_asked_for(tmp_path: Path) -> None:
    telemetry = Telemetry(config(tmp_path), (), ())
    assert telemetry.engine_observer is None
    assert telemetry.on_event_lag is None


def test_the_doctor_says_whether_metrics_can_be_served(taken: str) -> None:
    free = asyncio.run(check_metrics("127.0.0.1:0"))
    assert (Verdict.OK, "") == (free.verdict, free.remedy)
    public = asyncio.run(check_metrics("0.0.0.0:9464"))
    assert (Verdict.FAILED, True) == (public.verdict, bool(public.remedy))


def test_the_doctor_says_that_the_address_for_metrics_is_in_use(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("container_manager.doctor.observability_checks._SECONDS", 0.1)
    found = asyncio.run(check_metrics(taken))
    assert (Verdict.FAILED, True) == (found.verdict, "in use" in found.detail)
    other = asyncio.run(check_metrics(taken, running=True))
    assert (Verdict.FAILED, True) == (other.verdict, "not served by a container manager" in other.detail)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix:///metrics.sock"])
def test_the_doctor_knows_the_metrics_of_a_service_that_runs(session_dir: Path, tmp_path: Path, listen: str) -> None:
    listen = listen.replace("unix://", f"unix://{session_dir}")

    async def run() -> Any:
        assert (await check_metrics(listen)).verdict is Verdict.OK
        telemetry = Telemetry(config(tmp_path, metrics_listen=listen), (), ())
        await telemetry.start()
        try:
            address = telemetry.metrics_url.removeprefix("http://").removesuffix("/metrics")
            if listen.startswith("unix:"):
                assert (await check_metrics(listen)).verdict is Verdict.FAILED
            return await check_metrics(address, running=True)
        finally:
            await telemetry.stop(0)

    found = asyncio.run(run())
    assert (Verdict.OK, True) == (found.verdict, "by a container manager" in found.detail)


def test_the_doctor_says_whether_somebody_takes_traces(taken: str) -> None:
    assert Verdict.OK is asyncio.run(check_tracing(ours(f"http://{taken}"))).verdict
    assert Verdict.FAILED is asyncio.run(check_tracing(ours("nonsense"))).verdict
    assert Verdict.WARNING is asyncio.run(check_tracing(TracingConfig("x", "OTEL", required=False))).verdict
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        found = asyncio.run(check_tracing(ours(f"http://127.0.0.1:{holder.getsockname()[1]}")))
    assert (Verdict.WARNING, True) == (found.verdict, bool(found.remedy))
