"""Builds a :class:`~container_manager.config.ServerConfig` from the options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from container_manager.actions import Action
from container_manager.bot_directories import RootDirectory
from container_manager.cli.options import hint
from container_manager.config import (
    MAX_UNIX_PATH_BYTES,
    BackendConfig,
    RegistryConfig,
    ServerConfig,
    SwarmConfig,
    TlsConfig,
    TracingConfig,
)
from container_manager.errors import InvalidImageReferenceError, StartupError
from container_manager.image_reference import check_image_reference
from container_manager.maintenance.actions_file import read_actions
from container_manager.maintenance.sealed_secrets import Sealer
from container_manager.model import BotNetwork, PullPolicy
from container_manager.root_overlap import overlap
from container_manager.root_ownership import UnusableRootError, check_usable

_MAX_PORT = 65_535
_OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OTLP_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class ConfigurationError(click.ClickException):
    """The service cannot start before somebody changes its configuration: a service manager need not try again."""

    exit_code = 2


def server_config(options: dict[str, Any], *, check_roots: bool = True) -> ServerConfig:
    """The configuration of these options. Raises one of click's exceptions, with one line, for an invalid option.

    ``check_roots``: whether an unusable root is an error too.
    """
    docker_host: str = options["docker_host"]
    if not _is_docker_host(docker_host):
        raise click.BadParameter(
            f"{docker_host!r} is neither unix:///path (of at most 107 bytes) nor tcp://host:port",
            param_hint=hint("docker-host"),
        )
    try:
        check_image_reference(options["default_image"])
    except InvalidImageReferenceError as exc:
        raise click.BadParameter(exc.violations[0].description, param_hint=hint("default-image")) from exc
    swarm = _swarm(options)
    secrets_root = _root(options, "secrets")
    state_root = _root(options, "state") if options["state_root"] else None
    backup_root = _root(options, "backup").path if options["backup_root"] else None
    if check_roots:
        _check_root("secrets", secrets_root.path)
        if state_root is not None:
            _check_root("state", state_root.path)
        if backup_root is not None:
            _check_root("backup", backup_root, private=True)
        if problem := overlap(secrets_root, state_root, backup_root):
            raise ConfigurationError(f"{problem}; give each a directory of its own")
    service = {
        **_of_the_same_name(BackendConfig, options),
        "secrets_root": secrets_root,
        "state_root": state_root,
        "bot_network": BotNetwork(options["bot_network"]),
        "pull_policy": PullPolicy(options["pull"]),
        "allowed_images": options["allowed_image"],
        "registry_config": _registry_config(options["registry_config"], os.environ),
    }
    server = {
        **_of_the_same_name(ServerConfig, options),
        "tls": _tls(options),
        "tracing": _tracing(options),
        "swarm": swarm,
        "backup_root": backup_root,
        "backup_recipients": _backup_recipients(options["backup_recipient"]),
        "actions": _actions(options["actions"]),
    }
    return ServerConfig(service=BackendConfig(**service), **server)


def _backup_recipients(given: tuple[str, ...]) -> tuple[str, ...]:
    try:
        Sealer(given)
    except StartupError as exc:
        raise click.BadParameter(str(exc), param_hint=hint("backup-recipient")) from exc
    return given


def _swarm(options: dict[str, Any]) -> SwarmConfig | None:
    if options["backend"] != "swarm":
        for name in ("placement", "node-engine", "allow-weaker"):
            if options.get(name.replace("-", "_")):
                raise click.UsageError(f"{hint(name)} is for --backend swarm")
        return None
    if options["bot_network"] != BotNetwork.BRIDGE.value:
        raise click.UsageError(f"{hint('bot-network')} is for one engine; a swarm has no network for each bot")
    if options["backup_recipient"]:
        raise click.UsageError(f"{hint('backup-recipient')} is for one engine; a swarm gives no secret back")
    engines = {}
    for given in options["node_engine"]:
        name, _, url = given.partition("=")
        if not name or not _is_docker_host(url):
            raise click.BadParameter(
                f"{given!r} is not NODE=unix:///path or NODE=tcp://host:port", param_hint=hint("node-engine")
            )
        engines[name] = url
    placement = options["placement"] or ("pinned" if options["state_root"] else "floating")
    return SwarmConfig(placement, options["allow_weaker"], engines)


def _actions(path: Path | None) -> tuple[Action, ...]:
    try:
        return () if path is None else read_actions(path)
    except StartupError as exc:
        raise ConfigurationError(str(exc)) from exc


def _registry_config(given: str | None, environment: Mapping[str, str]) -> RegistryConfig | None:
    """The file given, or the one of this process's user that Docker's CLI and SDK use."""
    if given:
        return RegistryConfig(Path(given))
    try:
        directory = Path(environment.get("DOCKER_CONFIG") or Path("~/.docker").expanduser())
    except RuntimeError:
        # A user without a home directory.
        return None
    return RegistryConfig(directory / "config.json", required=False)


def _of_the_same_name(config: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options that have the name, and so the value, of a field of the configuration."""
    return {field.name: options[field.name] for field in fields(config) if field.name in options}


def _tracing(options: dict[str, Any]) -> TracingConfig | None:
    endpoint: str | None = options["otlp_endpoint"]
    return machine_tracing(os.environ) if endpoint is None else TracingConfig(endpoint, "--otlp-endpoint")


def machine_tracing(environment: Mapping[str, str]) -> TracingConfig | None:
    """Where OpenTelemetry's own variables send spans; ``None``: nowhere. An empty variable counts as unset."""
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter != "otlp":
        return None
    source = next((name for name in _OTLP_ENDPOINTS if environment.get(name)), None)
    if source is None:
        return None
    protocol = next((environment[name] for name in _OTLP_PROTOCOLS if environment.get(name)), "grpc")
    return TracingConfig(environment[source], source, protocol, required=False)


def _tls(options: dict[str, Any]) -> TlsConfig | None:
    names = ("tls-cert", "tls-key", "tls-client-ca")
    given = [options[name.replace("-", "_")] for name in names]
    if not any(given):
        return None
    for name, value in zip(names, given, strict=True):
        if not value:
            raise click.UsageError(f"--tls-cert, --tls-key and --tls-client-ca go together: {hint(name)} is missing")
    cert, key, client_ca = map(Path, given)
    return TlsConfig(cert, key, client_ca)


def _is_docker_host(text: str) -> bool:
    if text.startswith("unix:///"):
        return 1 < len(os.fsencode(text.removeprefix("unix://"))) <= MAX_UNIX_PATH_BYTES
    tcp = re.fullmatch(r"tcp://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})/?", text)
    return tcp is not None and 0 < int(tcp[1]) <= _MAX_PORT


def _root(options: dict[str, Any], what: str) -> RootDirectory:
    path = Path(options[f"{what}_root"])
    seen_by_engine = f"host_{what}_root"
    engine_path = Path((seen_by_engine in options and options[seen_by_engine]) or path)
    if not path.is_absolute():
        given = options[f"{what}_root"]
        raise click.BadParameter(f"{given!r} must be an absolute path", param_hint=hint(f"{what}-root"))
    if not engine_path.is_absolute():
        raise click.BadParameter(f"{engine_path} must be an absolute path", param_hint=hint(f"host-{what}-root"))
    return RootDirectory(path, engine_path)


def _check_root(what: str, path: Path, *, private: bool = False) -> None:
    try:
        check_usable(path, private=private)
    except UnusableRootError as exc:
        shown = str(path)[:100]
        place = shown if shown.isprintable() else repr(shown)
        raise ConfigurationError(f"the {what} root {place} {exc}; {exc.remedy}") from None
