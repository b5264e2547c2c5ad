"""The options of ``serve``: from the command line and from the environment into the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from container_manager.actions import Action
from container_manager.bot_directories import RootDirectory
from container_manager.cli.serve import serve as command
from container_manager.cli.server_config import server_config
from container_manager.config import BackendConfig, RegistryConfig, ServerConfig, SwarmConfig, TlsConfig
from container_manager.model import BotNetwork, PullPolicy
from tests.unit.serve_runs import Serve, complaint


def test_the_defaults(serve: Serve, tmp_path: Path) -> None:
    _, config = serve(environment={"HOME": str(tmp_path), "DOCKER_CONFIG": ""})
    expected = ServerConfig(
        service=BackendConfig(
            secrets_root=RootDirectory(tmp_path / "secrets", tmp_path / "secrets"),
            docker_host="unix:///var/run/docker.sock",
            default_image="botmaker/openclaw:2026.9.6",
            registry_config=RegistryConfig(tmp_path / ".docker" / "config.json", required=False),
        ),
        listen=("unix:///run/botmaker/container-manager.sock",),
        token_file=Path("/var/lib/botmaker/container-manager.token"),
    )
    assert expected == config


def test_by_default_as_many_bots_start_at_once_as_the_machine_has_cores_for_this_process(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5})
    _, config = serve()
    assert config is not None
    assert [3, 3] == [config.start_concurrency, ServerConfig(config.service, ()).start_concurrency]


def test_without_the_option_the_credentials_are_those_of_dockers_own_command(serve: Serve) -> None:
    _, config = serve(environment={"HOME": "/home/none", "DOCKER_CONFIG": "/srv/docker"})
    assert config is not None
    assert RegistryConfig(Path("/srv/docker/config.json"), required=False) == config.service.registry_config


RECIPIENT = "age1w7c3nge88xzuf4ad6uzuhguneej5qvqxkt86zymnjfynvlu8pcjsd0rfj0"
CASES: list[tuple[str, str, Callable[[ServerConfig], Any], Any]] = [
    ("--listen", "tcp://127.0.0.1:5", lambda c: c.listen, ("tcp://127.0.0.1:5",)),
    ("--services", "unix:///a=manager", lambda c: c.services, ("unix:///a=manager",)),
    ("--docker-host", "tcp://127.0.0.1:2375", lambda c: c.service.docker_host, "tcp://127.0.0.1:2375"),
    ("--host-secrets-root", "/srv/s", lambda c: c.service.secrets_root.engine_path, Path("/srv/s")),
    ("--state-mount", "/app/botdata", lambda c: c.service.state_mount, "/app/botdata"),
    ("--bot-user", "101000:101001", lambda c: c.service.bot_user, (101000, 101001)),
    ("--default-image", "mine:1", lambda c: c.service.default_image, "mine:1"),
    ("--bot-network", "isolated", lambda c: c.service.bot_network, BotNetwork.ISOLATED),
    ("--bot-network-pool", "10.3.0.0/20", lambda c: c.service.bot_network_pool, IPv4Network("10.3.0.0/20")),
    ("--pull", "never", lambda c: c.service.pull_policy, PullPolicy.NEVER),
    ("--backup-recipient", RECIPIENT, lambda c: c.backup_recipients, (RECIPIENT,)),
    ("--allowed-image", "ghcr.io/x/*", lambda c: c.service.allowed_images, ("ghcr.io/x/*",)),
    ("--registry-config", "/srv/r.json", lambda c: c.service.registry_config, RegistryConfig(Path("/srv/r.json"))),
    ("--grace-seconds", "1.5", lambda c: c.service.grace_seconds, 1.5),
    ("--engine-timeout-seconds", "7", lambda c: c.service.engine_timeout_seconds, 7),
    ("--workers", "3", lambda c: c.workers, 3),
    ("--start-concurrency", "3", lambda c: c.start_concurrency, 3),
    ("--max-concurrent-calls", "7", lambda c: c.max_concurrent_calls, 7),
    ("--drain-seconds", "0", lambda c: c.drain_seconds, 0),
    ("--socket-mode", "0600", lambda c: c.socket_mode, 0o600),
    ("--socket-group", "botmaker", lambda c: c.socket_group, "botmaker"),
    ("--token-file", "/t/token", lambda c: c.token_file, Path("/t/token")),
    ("--audit-log", "/a/log", lambda c: c.audit_log, "/a/log"),
]


@pytest.mark.parametrize("how", ["option", "environment"])
@pytest.mark.parametrize(("option", "text", "read", "value"), CASES, ids=[case[0] for case in CASES])
def test_an_option_is_an_environment_variable_too(  # noqa: PLR0917 - fixtures and parameters
    serve: Serve, how: str, option: str, text: str, read: Callable[[ServerConfig], Any], value: Any
) -> None:
    variable = "CONTAINER_MANAGER_" + option.removeprefix("--").replace("-", "_").upper()
    result, config = serve(option, text) if how == "option" else serve(environment={variable: text})
    assert config is not None, result.output
    assert value == read(config)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_operators_actions_are_read_from_their_file(serve: Serve, tmp_path: Path, how: str) -> None:
    file = tmp_path / "actions.toml"
    file.write_text('[[action]]\nname = "a"\ncommand = ["b"]\n')
    _, config = (
        serve("--actions", str(file))
        if how == "option"
        else serve(environment={"CONTAINER_MANAGER_ACTIONS": str(file)})
    )
    assert config is not None
    assert (Action("a", ("b",)),) == config.actions


def test_every_option_reaches_the_configuration() -> None:
    class Recorded(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            read.add(name)
            return super().__getitem__(name)

    read: set[str] = set()
    for backend in ("docker", "swarm"):
        arguments = ["--backend", backend, "--state-root", "/srv/state", "--backup-root", "/srv/backups"]
        options = command.make_context("serve", arguments).params
        server_config(Recorded(options), check_roots=False)
    assert set(options) - read == {"log_format", "log_level"}


def test_a_swarm_is_chosen_with_its_own_options(serve: Serve, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    chosen = ("--backend", "swarm")
    named = ("--node-engine", "a=unix:///run/a.sock", "--node-engine", "b=tcp://b:2375")
    _, config = serve(*chosen, *named, "--allow-weaker", "swap", "--state-root", str(state))
    assert config is not None
    expected = SwarmConfig("pinned", ("swap",), {"a": "unix:///run/a.sock", "b": "tcp://b:2375"})
    assert expected == config.swarm
    _, config = serve(*chosen)
    assert config is not None
    assert SwarmConfig("floating", (), {}) == config.swarm
    _, config = serve(*chosen, "--placement", "floating", "--state-root", str(state))
    assert config is not None
    assert SwarmConfig("floating", (), {}) == config.swarm


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_state_root_is_one_too(serve: Serve, tmp_path: Path, how: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    arguments = ("--state-root", str(state), "--host-state-root", "/srv/state") if how == "option" else ()
    environment = {"CONTAINER_MANAGER_STATE_ROOT": str(state), "CONTAINER_MANAGER_HOST_STATE_ROOT": "/srv/state"}
    _, config = serve(*arguments, environment={} if arguments else environment)
    assert config is not None
    assert RootDirectory(state, Path("/srv/state")) == config.service.state_root


def test_the_backup_root_is_for_the_service_alone(serve: Serve, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir(0o750)
    result, config = serve("--backup-root", str(backups))
    assert f"chmod 0700 {backups}" in complaint(result)
    assert config is None
    backups.chmod(0o700)
    _, config = serve(environment={"CONTAINER_MANAGER_BACKUP_ROOT": str(backups)})
    assert config is not None
    assert backups == config.backup_root


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_a_flag_of_the_environment_is_read_as_its_word_says(serve: Serve, value: str, expected: bool) -> None:
    _, config = serve(environment={"CONTAINER_MANAGER_INSECURE_NO_AUTH": value})
    assert config is not None
    assert expected is config.insecure_no_auth


def test_the_three_tls_files_are_given_together(serve: Serve) -> None:
    files = {"--tls-cert": "/c", "--tls-key": "/k", "--tls-client-ca": "/ca"}
    _, config = serve(*(part for pair in files.items() for part in pair))
    assert config is not None
    assert TlsConfig(Path("/c"), Path("/k"), Path("/ca")) == config.tls
    for missing in files:
        rest = [part for name, file in files.items() if name != missing for part in (name, file)]
        result, config = serve(*rest)
        assert f"go together: {missing} (or CONTAINER_MANAGER_TLS_" in complaint(result)
        assert config is None


def test_repeatable_options_keep_their_order(serve: Serve) -> None:
    _, config = serve("--listen", "unix:///b", "--listen", "unix:///a", "--allowed-image", "x", "--allowed-image", "y")
    assert config is not None
    assert (("unix:///b", "unix:///a"), ("x", "y")) == (config.listen, config.service.allowed_images)
    _, config = serve(environment={"CONTAINER_MANAGER_LISTEN": "unix:///b unix:///a"})
    assert config is not None
    assert ("unix:///b", "unix:///a") == config.listen
