"""The options of the commands, each declared once: its name, its variable, its type, its default and its help."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from container_manager.bot_directories import DEFAULT_BOT_USER, DEFAULT_STATE_MOUNT
from container_manager.cli.param_types import Mode, NetworkPool, Seconds, StateMount, User
from container_manager.config import DEFAULT_NETWORK_POOL, DEFAULT_SOCKET_MODE, SUBNET_BITS
from container_manager.model import BotNetwork, PullPolicy
from container_manager.validation import MAX_GRACE_SECONDS

ENVIRONMENT_PREFIX = "CONTAINER_MANAGER_"
DEFAULT_LISTEN = "unix:///run/botmaker/container-manager.sock"

Decorator = Callable[[Any], Any]


def option(name: str, **kwargs: Any) -> Decorator:
    """An option that is also an environment variable."""
    return click.option(name, envvar=variable(name), show_envvar=True, **kwargs)


def variable(name: str) -> str:
    """The environment variable of an option."""
    return ENVIRONMENT_PREFIX + name.removeprefix("--").replace("-", "_").upper()


def hint(name: str) -> str:
    """How an error message names an option."""
    return f"--{name} (or {variable(name)})"


_SERVER_OPTIONS: tuple[Decorator, ...] = (
    option(
        "--listen",
        multiple=True,
        default=(DEFAULT_LISTEN,),
        show_default=True,
        help="Address to serve: unix:///path or tcp://127.0.0.1:port; with TLS any IP address. Repeatable.",
    ),
    option(
        "--services",
        multiple=True,
        help="What a listener serves: ADDRESS=manager,observer,provisioner,maintainer. Repeatable. "
        "Not given: a unix socket serves all, TCP manager and observer.",
    ),
    option(
        "--docker-host",
        default="unix:///var/run/docker.sock",
        show_default=True,
        help="The Docker Engine: unix:///path or tcp://host:port.",
    ),
    option(
        "--backend",
        type=click.Choice(["docker", "swarm"]),
        default="docker",
        show_default=True,
        help="What runs the bots: that engine, or the Docker Swarm that it is a manager of.",
    ),
    option(
        "--placement",
        type=click.Choice(["pinned", "floating"]),
        help="On a swarm: a bot's state is on one node, where the bot runs, or on storage that all nodes share at "
        "--state-root. Not given: pinned if there is a state root.",
    ),
    option(
        "--node-engine",
        multiple=True,
        help="On a swarm: a node's own engine, NODE=unix:///path or NODE=tcp://host:port, for what only it can do. "
        "Repeatable.",
    ),
    option(
        "--allow-weaker",
        multiple=True,
        type=click.Choice(["host-address", "swap", "no-new-privileges", "grace-period"]),
        help="On a swarm: what may be weaker than on one engine. Repeatable. Not given: it is refused.",
    ),
    option(
        "--secrets-root",
        default="/var/lib/botmaker/secrets",
        show_default=True,
        help="Directory with one directory of secret files for each bot id.",
    ),
    option("--host-secrets-root", help="The same directory as the engine sees it, when this runs in a container."),
    option("--state-root", help="Directory with one state directory for each bot id. Not given: bots keep no state."),
    option("--host-state-root", help="The same directory as the engine sees it, when this runs in a container."),
    option("--backup-root", help="Directory for backups of bots, with mode 0700. Not given: the service keeps none."),
    option(
        "--backup-recipient",
        multiple=True,
        help="An age public key, age1…: backups then have the bot's secrets, encrypted for it. Repeatable. "
        "Needs the extra 'age'. Not given: backups have no secrets.",
    ),
    option(
        "--state-mount",
        type=StateMount(),
        default=DEFAULT_STATE_MOUNT,
        show_default=True,
        help="Where a bot's state directory appears in its container.",
    ),
    option(
        "--bot-user",
        type=User(),
        default=":".join(map(str, DEFAULT_BOT_USER)),
        show_default=True,
        help="Owner of bots' secrets and state, UID:GID as in a bot's container.",
    ),
    option(
        "--default-image",
        default="botmaker/openclaw:2026.9.6",
        show_default=True,
        help="Image of a bot whose create names none.",
    ),
    option(
        "--bot-network",
        type=click.Choice([network.value for network in BotNetwork]),
        default=BotNetwork.BRIDGE.value,
        show_default=True,
        help="Network of a bot whose create names none: the engine's default bridge, or a bridge of the bot's own.",
    ),
    option(
        "--bot-network-pool",
        type=NetworkPool(),
        default=str(DEFAULT_NETWORK_POOL),
        show_default=True,
        help=f"Addresses for bridges of bots' own, which get a /{SUBNET_BITS} each.",
    ),
    option(
        "--pull",
        type=click.Choice([policy.value for policy in PullPolicy]),
        default=PullPolicy.MISSING.value,
        show_default=True,
        help="When to pull a bot's image.",
    ),
    option(
        "--registry-config",
        help="File with the credentials of private registries, as docker login writes it; read at each pull. "
        "Not given: config.json in DOCKER_CONFIG or in ~/.docker, if it exists.",
    ),
    option(
        "--allowed-image",
        multiple=True,
        help="Glob that a bot's image must match, such as 'ghcr.io/openclaw/*'. Repeatable. Not given: any image.",
    ),
    option(
        "--grace-seconds",
        type=Seconds(0, MAX_GRACE_SECONDS),
        default=10,
        show_default=True,
        help="Time between the stop signal and SIGKILL, when the caller gives no grace period.",
    ),
    option(
        "--engine-timeout-seconds",
        type=Seconds(1),
        default=60,
        show_default=True,
        help="Time-out of one engine call. Grace periods are added to it; it does not apply to pulls.",
    ),
    option(
        "--workers",
        type=click.IntRange(1, 1000),
        default=64,
        show_default=True,
        help="Concurrent creates, and as many other concurrent changes.",
    ),
    option(
        "--start-concurrency",
        type=click.IntRange(1, 10_000),
        default=lambda: len(os.sched_getaffinity(0)),
        show_default="the machine's cores",
        help="Bots that start at once. Further starts and restarts wait until one is ready, or for 120 s at most.",
    ),
    option(
        "--max-watchers",
        type=click.IntRange(1, 10_000),
        default=1000,
        show_default=True,
        help="Concurrent streams of WatchContainers, and as many of WatchStats.",
    ),
    option(
        "--max-log-streams",
        type=click.IntRange(1, 10_000),
        default=64,
        show_default=True,
        help="Concurrent streams of StreamLogs.",
    ),
    option(
        "--max-concurrent-calls",
        type=click.IntRange(1, 100_000),
        default=1000,
        show_default=True,
        help="Concurrent changes, running or waiting, and as many concurrent reads.",
    ),
    option(
        "--drain-seconds",
        type=Seconds(0),
        default=20,
        show_default=True,
        help="How long a shutdown waits for running calls.",
    ),
    option(
        "--socket-mode",
        type=Mode(),
        default=f"{DEFAULT_SOCKET_MODE:04o}",
        show_default=True,
        help="Mode of unix sockets in octal digits. It may grant rights to the owner and the group only.",
    ),
    option(
        "--socket-group",
        help="Group, by name or number, that may open unix sockets. Not given: the group of this process.",
    ),
    option(
        "--token-file",
        type=click.Path(path_type=Path),
        default="/var/lib/botmaker/container-manager.token",
        show_default=True,
        help="File with the bearer token that TCP callers must send. Created if absent.",
    ),
    option("--tls-cert", help="Certificate of the TCP listeners in PEM form, with the intermediate certificates."),
    option("--tls-key", help="Private key of that certificate."),
    option(
        "--tls-client-ca",
        help="Authorities that issue the certificates of TCP callers. With all three options: TLS, on any address.",
    ),
    option(
        "--insecure-no-auth",
        is_flag=True,
        help="Serve TCP on loopback without a token. For disposable machines only.",
    ),
    option(
        "--actions",
        type=click.Path(path_type=Path),
        help="TOML file with programs that callers may run in bots, beside the built-in ones.",
    ),
    option(
        "--audit-log", help="File that gets a line of JSON for each change: who, what, which bot, outcome. Or: journal."
    ),
    option(
        "--metrics-listen",
        help="Serve Prometheus metrics at this loopback address, such as 127.0.0.1:9464, or at unix:///PATH.",
    ),
    option(
        "--otlp-endpoint",
        help="Send traces to this collector by OTLP over gRPC, such as http://127.0.0.1:4317. "
        "Needs the extra 'tracing'. Not given: the value of OTEL_EXPORTER_OTLP_ENDPOINT.",
    ),
)
_LOG_OPTIONS: tuple[Decorator, ...] = (
    option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True),
    option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        show_default=True,
    ),
)


def server_options(command: Any) -> Any:
    """Every option that :func:`~container_manager.cli.server_config.server_config` reads."""
    return _with(_SERVER_OPTIONS, command)


def log_options(command: Any) -> Any:
    """The format and level of the log."""
    return _with(_LOG_OPTIONS, command)


def _with(options: tuple[Decorator, ...], command: Any) -> Any:
    # Decorators apply from the last to the first, and help lists the first one first.
    for decorate in reversed(options):
        command = decorate(command)
    return command
