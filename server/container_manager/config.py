"""Configuration values. Only :mod:`container_manager.cli` reads the command line and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from container_manager.actions import Action
from container_manager.bot_directories import DEFAULT_BOT_USER, DEFAULT_STATE_MOUNT, BotUser, RootDirectory
from container_manager.model import BotNetwork, PullPolicy

# sockaddr_un.sun_path holds 108 bytes, the closing NUL included (unix(7)).
MAX_UNIX_PATH_BYTES = 107
DEFAULT_SOCKET_MODE = 0o660
# Used neither by Docker's default pools (172.17-31, 192.168) and Swarm's (10.0 on) nor by Kubernetes' usual ones.
DEFAULT_NETWORK_POOL = IPv4Network("10.201.0.0/16")
SUBNET_BITS = 28
"""Length of the prefix of a bot's own network: the bot, its gateway, and what the operator puts beside it."""


@dataclass(frozen=True)
class RegistryConfig:
    """The file with the credentials of registries, in the format of Docker's ``config.json``; read at each pull."""

    path: Path
    required: bool = True
    """``False``: pulls are anonymous while there is no such file."""


@dataclass(frozen=True)
class BackendConfig:
    """What bots run on and with, whatever the backend is."""

    secrets_root: RootDirectory
    """Holds ``{bot_id}/`` with the bot's secret files."""
    state_root: RootDirectory | None = None
    """Holds ``{bot_id}/``, mounted read-write as the bot's OpenClaw state. ``None``: no state mount."""
    state_mount: str = DEFAULT_STATE_MOUNT
    """Where the state directory appears in the bot's container: an absolute path in its shortest form."""
    bot_user: BotUser = DEFAULT_BOT_USER
    """Owner of bots' secrets and state, as in a container: an engine with user namespaces adds their base."""
    docker_host: str = "unix:///var/run/docker.sock"
    """The engine's endpoint: ``unix://`` or ``tcp://``. Never taken from the Docker CLI's context."""
    default_image: str = "botmaker/openclaw:2026.9.6"
    """The image of a bot whose request names none."""
    bot_network: BotNetwork = BotNetwork.BRIDGE
    """The network of a bot whose request names none."""
    bot_network_pool: IPv4Network = DEFAULT_NETWORK_POOL
    """Subnets for networks of bots' own are cut from these addresses."""
    pull_policy: PullPolicy = PullPolicy.MISSING
    allowed_images: tuple[str, ...] = ()
    """Globs over image references; empty: any image. The default image is always allowed."""
    registry_config: RegistryConfig | None = None
    """``None``: pulls are anonymous."""
    grace_seconds: float = 10
    """Grace period of stop, restart and remove when the caller gives none."""
    engine_timeout_seconds: float = 60
    """Time-out of one engine call. A grace period is added to it; only the caller's deadline bounds a pull."""


@dataclass(frozen=True)
class SwarmConfig:
    """What only the backend for a Docker Swarm is configured with."""

    placement: str = "floating"
    """``pinned``: a bot's state is on one node, where it runs; ``floating``: on storage that all nodes share."""
    allow_weaker: tuple[str, ...] = ()
    """What the operator accepts to be weaker than on one engine, by name."""
    node_engines: Mapping[str, str] = field(default_factory=dict)
    """Endpoints of nodes' own engines, by the nodes' host names."""


@dataclass(frozen=True)
class TlsConfig:
    """Files in PEM form. They may be replaced while the service runs."""

    cert: Path
    """The listeners' certificate, followed by the intermediate certificates."""
    key: Path
    """The certificate's private key, which other users may not read."""
    client_ca: Path
    """Certificate authorities. Every client with a certificate of theirs may connect: use an authority of your own."""


@dataclass(frozen=True)
class TransportLimits:
    """Transport limits of each gRPC listener, in force before any call is read."""

    receive_bytes: int = 4 * 1024 * 1024
    """Size of one request. The largest valid one has three quarters of this; a larger one gets RESOURCE_EXHAUSTED."""
    send_bytes: int = 32 * 1024 * 1024
    """Size of one response: 5,000 containers, each with the longest texts. The client accepts as much."""
    connections: int | None = None
    """Open connections; more are closed at once. ``None``: all listeners share half of this process's descriptors."""
    streams_per_connection: int | None = None
    """Concurrent calls on one connection; more wait in the client. ``None``: as many as the whole server accepts."""
    handshake_seconds: float = 10
    """Time for the handshake of a new connection, TLS included."""
    idle_seconds: float = 300
    """Time without a call after which a connection is closed."""
    keepalive_seconds: float = 60
    """Time without traffic after which the server pings the client."""
    keepalive_timeout_seconds: float = 20
    """Time for the client to answer that ping."""
    least_ping_seconds: float = 5
    """Minimum time between a client's own pings. A client that pings more often gets GOAWAY."""


@dataclass(frozen=True)
class TracingConfig:
    """Where spans are sent."""

    endpoint: str
    """A collector that takes OTLP over gRPC: ``http://host:port``."""
    source: str
    """The option or variable that gave the endpoint."""
    protocol: str = "grpc"
    """The endpoint's protocol, in the words of OTEL_EXPORTER_OTLP_PROTOCOL."""
    required: bool = True
    """An unusable endpoint keeps the service from starting. ``False``: it logs a warning and sends no traces."""


@dataclass(frozen=True)
class ServerConfig:
    """Configuration of :class:`~container_manager.rpc.server.Server`."""

    service: BackendConfig
    listen: tuple[str, ...]
    """Addresses: ``unix:///path`` or ``tcp://127.0.0.1:port``; with ``tls`` any IP address."""
    swarm: SwarmConfig | None = None
    """Set: ``service.docker_host`` is a manager of a Docker Swarm, whose nodes run the bots."""
    services: tuple[str, ...] = ()
    """Services of listeners: ``ADDRESS=NAME,…``. Others serve all on unix sockets, manager and observer on TCP."""
    socket_mode: int = DEFAULT_SOCKET_MODE
    """Mode of unix sockets; it grants rights to the owner and one group only."""
    socket_group: str | None = None
    """Name or number of the group that may open unix sockets. ``None``: this process's group."""
    token_file: Path | None = None
    """Bearer token of the TCP listeners, created on first start. TCP needs it unless ``insecure_no_auth`` is set."""
    tls: TlsConfig | None = None
    """TLS for all TCP listeners, on loopback too. Callers then need a client certificate and the token."""
    insecure_no_auth: bool = False
    """Serve TCP on loopback without a token: without ``tls``, any local process controls every bot."""
    backup_root: Path | None = None
    """Holds the archives of bots' states. ``None``: the service keeps no backups."""
    backup_recipients: tuple[str, ...] = ()
    """age public keys of the operator's, for which secrets are encrypted in archives. Empty: no archive has secrets."""
    workers: int = 64
    """Concurrent creates, as many writes of secrets and files, and as many other changes."""
    start_concurrency: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Bots that start at once, until they are ready."""
    max_watchers: int = 1000
    """Concurrent streams of WatchContainers, and as many of WatchStats; they name 100 bots each on average."""
    max_log_streams: int = 64
    max_concurrent_calls: int = 1000
    """Concurrent changes, running or waiting, and as many concurrent reads."""
    actions: tuple[Action, ...] = ()
    """The operator's actions, which come before the built-in ones."""
    limits: TransportLimits = field(default_factory=TransportLimits)
    drain_seconds: float = 20
    """How long a shutdown waits for running calls."""
    audit_log: str | None = None
    """File that gets a line for each call that may change something, or ``journal``. ``None``: no audit log."""
    metrics_listen: str | None = None
    """Loopback address and port, or ``unix:///path``, that serve Prometheus metrics over HTTP. ``None``: no metrics."""
    tracing: TracingConfig | None = None
    """``None``: no traces."""
