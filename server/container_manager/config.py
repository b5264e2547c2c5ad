"""Configuration, as values. The command line and the environment are read in :mod:`container_manager.cli` alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from container_manager.bot_directories import RootDirectory
from container_manager.model import PullPolicy

# sockaddr_un.sun_path holds 108 bytes, the closing NUL included (unix(7)).
MAX_UNIX_PATH_BYTES = 107
DEFAULT_SOCKET_MODE = 0o660


@dataclass(frozen=True)
class DockerServiceConfig:
    """What :class:`~container_manager.backends.docker.docker_service.DockerService` needs to know."""

    secrets_root: RootDirectory
    """Holds ``{bot_id}/`` with the bot's secret files."""
    state_root: RootDirectory | None = None
    """Holds ``{bot_id}/``, mounted read-write as the bot's OpenClaw state. ``None``: no state mount."""
    docker_host: str = "unix:///var/run/docker.sock"
    """The engine's endpoint: ``unix://`` or ``tcp://``. Never taken from the Docker CLI's context."""
    default_image: str = "botmaker/openclaw:2026.9.6"
    """Image of bots that name none."""
    pull_policy: PullPolicy = PullPolicy.MISSING
    allowed_images: tuple[str, ...] = ()
    """Globs over image references; empty: any image. The default image is always allowed."""
    grace_seconds: float = 10
    """Grace period of stop, restart and remove when the caller gives none."""
    engine_timeout_seconds: float = 60
    """How long one engine call may take; grace periods come on top, pulls have no bound but the caller's."""


@dataclass(frozen=True)
class TlsConfig:
    """Files in PEM form. They may be replaced while they are used."""

    cert: Path
    """The listeners' certificate, followed by its intermediate ones."""
    key: Path
    """Its private key, which others may not read."""
    client_ca: Path
    """The authorities whose client certificates are taken. Whoever has one of these is let in: an authority's own."""


@dataclass(frozen=True)
class TransportLimits:
    """What gRPC's listeners take of a connection before any call is looked at. Of each listener."""

    receive_bytes: int = 4 * 1024 * 1024
    """Of one request; four times what the largest good one has. A larger one is RESOURCE_EXHAUSTED."""
    send_bytes: int = 32 * 1024 * 1024
    """Of one response: 5,000 containers, each with the longest texts. The client takes as much."""
    connections: int | None = None
    """More are closed at once. ``None``: for all listeners half of the descriptors that this process may have."""
    streams_per_connection: int | None = None
    """Calls at once; further ones wait in the client. ``None``: as many as the server takes in all."""
    handshake_seconds: float = 10
    """For a new connection to begin as gRPC's do, TLS included."""
    idle_seconds: float = 300
    """Without a call, until a connection is closed."""
    keepalive_seconds: float = 60
    """Without a byte, until a client is asked whether it is still there."""
    keepalive_timeout_seconds: float = 20
    """For its answer."""
    least_ping_seconds: float = 5
    """Between a client's own such questions. One that asks more often is sent away with GOAWAY."""


@dataclass(frozen=True)
class TracingConfig:
    """Where spans are sent to."""

    endpoint: str
    """A collector that takes OTLP over gRPC: ``http://host:port``."""
    source: str
    """Where the endpoint was given: the name of an option or a variable."""
    protocol: str = "grpc"
    """What is spoken there, as OTEL_EXPORTER_OTLP_PROTOCOL names it."""
    required: bool = True
    """An endpoint that cannot be used is an error. False, of the machine's settings: a warning, and no traces."""


@dataclass(frozen=True)
class ServerConfig:
    """What :class:`~container_manager.rpc.server.Server` needs to know."""

    service: DockerServiceConfig
    listen: tuple[str, ...]
    """Addresses: ``unix:///path`` or ``tcp://127.0.0.1:port``; with ``tls`` any IP address."""
    socket_mode: int = DEFAULT_SOCKET_MODE
    """Of unix sockets; never with rights for others than owner and group."""
    socket_group: str | None = None
    """Name or number of the group that may open unix sockets. ``None``: the group that this process runs in."""
    token_file: Path | None = None
    """Bearer token of the TCP listeners; made on first start if absent. Needed for TCP unless ``insecure_no_auth``."""
    tls: TlsConfig | None = None
    """Of all TCP listeners, on loopback too. Callers then need a client certificate, and the token on top."""
    insecure_no_auth: bool = False
    """Serve TCP without a token, on loopback alone: without ``tls`` to any local process."""
    workers: int = 64
    """Creates under way at once, and as many other changes."""
    max_watchers: int = 1000
    """Streams of WatchContainers at once, and as many of WatchStats."""
    max_log_streams: int = 64
    max_concurrent_calls: int = 1000
    """Changes under way or waiting at once, and as many reads."""
    limits: TransportLimits = field(default_factory=TransportLimits)
    drain_seconds: float = 20
    """How long a shutdown waits for calls under way."""
    metrics_listen: str | None = None
    """Where Prometheus metrics are served over HTTP: a loopback address and a port. ``None``: nowhere."""
    tracing: TracingConfig | None = None
    """``None``: no traces."""
