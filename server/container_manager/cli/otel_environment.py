"""What the machine's own settings say of traces: the variables that every program with OpenTelemetry heeds."""

from __future__ import annotations

from collections.abc import Mapping

from container_manager.config import TracingConfig

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def machine_tracing(environment: Mapping[str, str]) -> TracingConfig | None:
    """Where they want spans to be sent; ``None``: nowhere. An empty variable counts as none."""
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter != "otlp":
        return None
    source = next((name for name in _ENDPOINTS if environment.get(name)), None)
    if source is None:
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "grpc")
    return TracingConfig(environment[source], source, protocol, required=False)
