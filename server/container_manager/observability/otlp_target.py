"""The collector's address, from an option or from the machine's own settings."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from container_manager.config import TracingConfig
from container_manager.errors import StartupError

EXTRA = "tracing"
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.grpc")


def otlp_target(config: TracingConfig) -> str:
    """The collector as ``host:port``. Raises :class:`StartupError` if the configuration or a package prevents it."""
    if config.protocol != "grpc":
        raise StartupError(f"{config.source}: only OTLP over gRPC is supported, not {config.protocol!r}")
    target = _target(config.endpoint)
    if target is None:
        raise StartupError(
            f"{config.source}: {_shown(config.endpoint)!r} is not an address such as http://127.0.0.1:4317"
        )
    if not all(_is_installed(name) for name in _PACKAGES):
        raise StartupError(
            f"{config.source} needs the extra {EXTRA!r}: pip install '.[server,{EXTRA}]' in its source tree"
        )
    return target


def _target(endpoint: str) -> str | None:
    try:
        parts = urlsplit(endpoint)
        port = parts.port
        # As the resolver encodes it; not every text can be a host name.
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in endpoint
    if parts.scheme != "http" or not parts.hostname or not port or extra or not endpoint.isprintable():
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"


def _shown(endpoint: str) -> str:
    """The endpoint without a user and a password, which must not reach a log."""
    _, at, rest = endpoint.rpartition("@")
    return f"...@{rest}" if at else endpoint


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
