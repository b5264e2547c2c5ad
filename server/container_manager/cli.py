"""The command line. Every option is also an environment variable, ``CONTAINER_MANAGER_`` and its name."""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import click

from container_manager.bot_directories import RootDirectory
from container_manager.config import MAX_UNIX_PATH_BYTES, DockerServiceConfig, ServerConfig
from container_manager.errors import InvalidImageReferenceError
from container_manager.image_reference import check_image_reference
from container_manager.model import PullPolicy
from container_manager.validation import MAX_GRACE_SECONDS

ENVIRONMENT_PREFIX = "CONTAINER_MANAGER_"
_MAX_PORT = 65_535


class _Seconds(click.FloatRange):
    """A number of seconds within bounds, and really a number."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


def _option(name: str, **kwargs: Any) -> Any:
    return click.option(name, envvar=_variable(name), show_envvar=True, **kwargs)


def _variable(option: str) -> str:
    return ENVIRONMENT_PREFIX + option.removeprefix("--").replace("-", "_").upper()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="botmaker-container-manager")
def main() -> None:
    """Own one Docker container per bot, so that nothing else needs the Docker socket."""


@main.command()
@_option(
    "--listen",
    multiple=True,
    default=("unix:///run/botmaker/container-manager.sock",),
    show_default=True,
    help="Address to serve: unix:///path or tcp://127.0.0.1:port. Repeatable.",
)
@_option(
    "--docker-host",
    default="unix:///var/run/docker.sock",
    show_default=True,
    help="The Docker Engine: unix:///path or tcp://host:port.",
)
@_option(
    "--secrets-root",
    default="/var/lib/botmaker/secrets",
    show_default=True,
    help="Directory that holds one directory of secret files per bot id.",
)
@_option("--host-secrets-root", help="The same directory as the engine sees it, when this runs in a container.")
@_option("--state-root", help="Directory that holds one state directory per bot id. Not given: bots keep no state.")
@_option("--host-state-root", help="The same directory as the engine sees it, when this runs in a container.")
@_option(
    "--default-image",
    default="botmaker/openclaw:2026.9.6",
    show_default=True,
    help="Image of bots that name none.",
)
@_option(
    "--pull",
    type=click.Choice([policy.value for policy in PullPolicy]),
    default=PullPolicy.MISSING.value,
    show_default=True,
    help="When to pull a bot's image.",
)
@_option(
    "--allowed-image",
    multiple=True,
    help="Glob that a bot's image must match, as in 'ghcr.io/openclaw/*'. Repeatable; none: any image.",
)
@_option(
    "--grace-seconds",
    type=_Seconds(0, MAX_GRACE_SECONDS),
    default=10,
    show_default=True,
    help="Time between a stop's signal and SIGKILL, when the caller gives none.",
)
@_option(
    "--engine-timeout-seconds",
    type=_Seconds(1),
    default=60,
    show_default=True,
    help="How long one engine call may take, grace periods and pulls apart.",
)
@_option(
    "--workers",
    type=click.IntRange(1, 1000),
    default=64,
    show_default=True,
    help="Creates under way at once, and as many other changes.",
)
@_option(
    "--max-watchers",
    type=click.IntRange(1, 10_000),
    default=1000,
    show_default=True,
    help="Streams of WatchContainers at once, and as many of WatchStats.",
)
@_option(
    "--max-log-streams",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Streams of StreamLogs at once.",
)
@_option(
    "--drain-seconds",
    type=_Seconds(0),
    default=20,
    show_default=True,
    help="How long a shutdown waits for calls under way.",
)
@_option(
    "--token-file",
    default="/var/lib/botmaker/container-manager.token",
    show_default=True,
    help="Bearer token that TCP callers must send; made when absent.",
)
@_option("--insecure-no-auth", is_flag=True, help="Serve TCP without a token: for a throw-away machine only.")
@_option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
def serve(**options: Any) -> None:
    """Serve the ContainerManager and the ContainerObserver until SIGTERM or Ctrl-C."""
    config = _server_config(options)
    # gRPC's core writes to standard error itself, and what callers sent is in it: tokens, and whole lines if they like.
    # It looks here when it is loaded; who is after a fault of gRPC's can set another level.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Late, so that --help and wrong options answer without loading gRPC and the Docker SDK.
    from container_manager.logs import configure_logging
    from container_manager.rpc.server import Server
    from container_manager.rpc.startup_error import StartupError

    configure_logging(options["log_format"], options["log_level"])
    try:
        Server(config).run(lambda addresses: click.echo(f"container-manager serving on {' '.join(addresses)}"))
    except StartupError as exc:
        raise click.ClickException(str(exc)) from exc


def _server_config(options: dict[str, Any]) -> ServerConfig:
    docker_host: str = options["docker_host"]
    if not _is_docker_host(docker_host):
        raise click.BadParameter(
            f"{docker_host!r} is neither unix:///path (of at most 107 bytes) nor tcp://host:port",
            param_hint=_hint("docker-host"),
        )
    try:
        check_image_reference(options["default_image"])
    except InvalidImageReferenceError as exc:
        raise click.BadParameter(exc.violations[0].description, param_hint=_hint("default-image")) from exc
    return ServerConfig(
        service=DockerServiceConfig(
            secrets_root=_root(options, "secrets"),
            state_root=_root(options, "state") if options["state_root"] else None,
            docker_host=docker_host,
            default_image=options["default_image"],
            pull_policy=PullPolicy(options["pull"]),
            allowed_images=options["allowed_image"],
            grace_seconds=options["grace_seconds"],
            engine_timeout_seconds=options["engine_timeout_seconds"],
        ),
        listen=options["listen"],
        token_file=Path(options["token_file"]),
        insecure_no_auth=options["insecure_no_auth"],
        workers=options["workers"],
        max_watchers=options["max_watchers"],
        max_log_streams=options["max_log_streams"],
        drain_seconds=options["drain_seconds"],
    )


def _is_docker_host(text: str) -> bool:
    if text.startswith("unix:///"):
        return 1 < len(os.fsencode(text.removeprefix("unix://"))) <= MAX_UNIX_PATH_BYTES
    tcp = re.fullmatch(r"tcp://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/?", text)
    return tcp is not None and 0 < int(tcp[1]) <= _MAX_PORT


def _hint(name: str) -> str:
    return f"--{name} (or {_variable(name)})"


def _root(options: dict[str, Any], what: str) -> RootDirectory:
    path = Path(options[f"{what}_root"])
    engine_path = Path(options[f"host_{what}_root"] or path)
    if not path.is_absolute():
        given = options[f"{what}_root"]
        raise click.BadParameter(f"{given!r} must be an absolute path", param_hint=_hint(f"{what}-root"))
    if not engine_path.is_absolute():
        raise click.BadParameter(f"{engine_path} must be an absolute path", param_hint=_hint(f"host-{what}-root"))
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        raise click.ClickException(
            f"the {what} root {path} does not exist; make it first, for example with: install -d -m 0700 {path}"
        ) from None
    except PermissionError:
        raise click.ClickException(f"the {what} root {path} cannot be read by this user") from None
    except (OSError, ValueError) as exc:
        raise click.ClickException(f"the {what} root {str(path)[:100]!r} cannot be used: {exc}") from None
    if not is_directory:
        raise click.ClickException(f"the {what} root {path} is not a directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise click.ClickException(f"the {what} root {path} cannot be read by this user")
    return RootDirectory(path, engine_path)
