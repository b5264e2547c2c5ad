"""The command line: a wrong option is one clear line, never a traceback."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from container_manager.actions import Action
from container_manager.bot_directories import RootDirectory
from container_manager.cli import main
from container_manager.cli.serve import serve as command
from container_manager.cli.server_config import server_config
from container_manager.config import BackendConfig, RegistryConfig, ServerConfig, SwarmConfig, TlsConfig
from container_manager.errors import StartupError
from container_manager.model import BotNetwork, PullPolicy
from container_manager.rpc import server

Serve = Callable[..., tuple[Result, ServerConfig | None]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Runs ``serve`` with a server that only keeps its config; by default the secrets root exists."""
    (tmp_path / "secrets").mkdir()
    monkeypatch.setattr("container_manager.observability.log_format.configure_logging", lambda *_: None)

    def run(*arguments: str, environment: Mapping[str, str] = {}) -> tuple[Result, ServerConfig | None]:
        configs: list[ServerConfig] = []

        class Server:
            def __init__(self, config: ServerConfig, _open_backend: object) -> None:
                configs.append(config)

            def run(self, on_serving: Callable[[list[str]], None], _on_stopping: Callable[[], None]) -> None:
                on_serving(["unix:///a", "tcp://127.0.0.1:1"])

        monkeypatch.setattr(server, "Server", Server)
        env = {name: None for name in os.environ if name.startswith("CONTAINER_MANAGER_")}
        env |= {"CONTAINER_MANAGER_SECRETS_ROOT": str(tmp_path / "secrets"), **environment}
        result = CliRunner().invoke(main, ["serve", *arguments], env=env)
        return result, configs[0] if configs else None

    thresholds = gc.get_threshold()
    yield run
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def complaint(result: Result) -> str:
    """The last line of a refused call; asserts that it is a clear message."""
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    line: str = result.output.rstrip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def test_it_says_where_it_serves_in_one_line(serve: Serve) -> None:
    result, _ = serve()
    assert (0, "container-manager serving on unix:///a tcp://127.0.0.1:1\n") == (result.exit_code, result.output)


def test_the_garbage_collector_is_tuned_when_it_serves_and_not_by_loading_the_server(serve: Serve) -> None:
    code = (
        "import gc, container_manager.cli, container_manager.rpc.server; print(gc.get_freeze_count(), gc.isenabled())"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True
    )
    before = gc.get_threshold()
    serve()
    assert ("0 True", True) == (loaded.stdout.strip(), gc.isenabled())
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() > before


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


def test_a_file_of_actions_with_an_error_keeps_it_from_starting(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "actions.toml"
    file.write_text('[[action]]\nname = "a"\ncommand = "b"\n')
    result, config = serve("--actions", str(file))
    assert (2, None) == (result.exit_code, config)
    assert complaint(result).startswith(f"Error: {file}:3: command: is required")


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--placement", "pinned"), "is for --backend swarm"),
        (("--backend", "swarm", "--backup-recipient", "age1x"), "a swarm gives no secret back"),
        (("--node-engine", "a=unix:///a"), "is for --backend swarm"),
        (("--allow-weaker", "swap"), "is for --backend swarm"),
        (("--backend", "swarm", "--node-engine", "unix:///a"), "is not NODE=unix:///path"),
        (("--backend", "swarm", "--node-engine", "=unix:///a"), "is not NODE=unix:///path"),
        (("--backend", "swarm", "--node-engine", "a=http://b"), "is not NODE=unix:///path"),
        (("--backend", "swarm", "--allow-weaker", "everything"), "is not one of"),
        (("--backend", "swarm", "--placement", "here"), "is not one of"),
        (("--backend", "swarm", "--bot-network", "isolated"), "is for one engine"),
        (("--backend", "kubernetes"), "is not one of"),
    ],
)
def test_wrong_options_of_a_swarm_are_refused(serve: Serve, arguments: tuple[str, ...], words: str) -> None:
    result, config = serve(*arguments)
    assert (2, None) == (result.exit_code, config)
    assert words in complaint(result)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_the_state_root_is_one_too(serve: Serve, tmp_path: Path, how: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    arguments = ("--state-root", str(state), "--host-state-root", "/srv/state") if how == "option" else ()
    environment = {"CONTAINER_MANAGER_STATE_ROOT": str(state), "CONTAINER_MANAGER_HOST_STATE_ROOT": "/srv/state"}
    _, config = serve(*arguments, environment={} if arguments else environment)
    assert config is not None
    assert RootDirectory(state, Path("/srv/state")) == config.service.state_root


@pytest.mark.parametrize(
    ("state", "further"),
    [
        ("secrets", ()),
        ("secrets/state", ()),
        ("", ()),
        ("link", ()),
        ("state", ("--host-secrets-root", "/srv/bots", "--host-state-root", "/srv/bots/state")),
    ],
    ids=["the same", "state below secrets", "secrets below state", "through a link", "as the engine sees them"],
)
def test_roots_that_overlap_are_refused(serve: Serve, tmp_path: Path, state: str, further: tuple[str, ...]) -> None:
    (tmp_path / "secrets" / "state").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "secrets" / "state")
    for what in ("--state-root", *(() if further else ("--backup-root",))):
        (tmp_path / state).chmod(0o700)
        result, config = serve(what, str(tmp_path / state), *further)
        assert "give each a directory of its own" in complaint(result)
        assert config is None


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--docker-host", "/var/run/docker.sock"], "--docker-host"),
        (["--docker-host", "http://127.0.0.1:2375"], "--docker-host"),
        (["--docker-host", "unix://relative"], "--docker-host"),
        (["--docker-host", "tcp://"], "--docker-host"),
        (["--default-image", "-v /:/host"], "--default-image"),
        (["--default-image", "Upper"], "--default-image"),
        (["--default-image", ""], "--default-image"),
        (["--secrets-root", "relative"], "--secrets-root"),
        (["--host-secrets-root", "relative"], "--host-secrets-root"),
        (["--state-root", "relative"], "--state-root"),
        (["--state-mount", "relative"], "is not an absolute path"),
        (["--state-mount", "/app/bot\ndata"], "is not an absolute path"),
        (["--state-mount", ""], "is not an absolute path"),
        (["--state-mount", "/"], "is not the shortest form"),
        (["--state-mount", "//app"], "is not the shortest form"),
        (["--state-mount", "/app/../etc"], "is not the shortest form"),
        (["--state-mount", "/app/"], "is not the shortest form"),
        (["--state-mount", "/run/secrets"], "would hide /run/secrets"),
        (["--state-mount", "/run/secrets/state"], "would hide /run/secrets"),
        (["--state-mount", "/run"], "would hide /run/secrets"),
        (["--state-mount", "/proc/1"], "would hide /proc"),
        (["--state-mount", "/etc"], "would hide /etc/host"),
        (["--state-mount", "/etc/resolv.conf"], "would hide /etc/resolv.conf"),
        (["--state-mount", "/sbin"], "would hide /sbin/docker-init"),
        (["--grace-seconds", "-1"], "--grace-seconds"),
        (["--grace-seconds", "nan"], "--grace-seconds"),
        (["--grace-seconds", "x"], "--grace-seconds"),
        (["--grace-seconds", "86401"], "--grace-seconds"),
        (["--engine-timeout-seconds", "0"], "--engine-timeout-seconds"),
        (["--engine-timeout-seconds", "nan"], "--engine-timeout-seconds"),
        (["--engine-timeout-seconds", "inf"], "--engine-timeout-seconds"),
        (["--drain-seconds", "nan"], "--drain-seconds"),
        (["--workers", "0"], "--workers"),
        (["--max-concurrent-calls", "0"], "--max-concurrent-calls"),
        (["--workers", "1.5"], "--workers"),
        (["--socket-mode", "0o660"], "--socket-mode"),
        (["--socket-mode", "668"], "--socket-mode"),
        (["--socket-mode", "rw-rw----"], "--socket-mode"),
        (["--pull", "sometimes"], "--pull"),
        (["--bot-network", "host"], "--bot-network"),
        (["--bot-network-pool", "10.3.0.1/20"], "is not a range of IPv4 addresses"),
        (["--bot-network-pool", "10.3.0.0/29"], "of at least a /28"),
        (["--bot-network-pool", "8.8.0.0/16"], "is not a range of private addresses"),
        (["--log-format", "xml"], "--log-format"),
        (["--log-level", "loud"], "--log-level"),
        (["--no-such-option"], "--no-such-option"),
        (["argument"], "argument"),
        (["--secrets-root", "/nowhere/at/all"], "the secrets root /nowhere/at/all does not exist; create it first"),
        (["--state-root", "/nowhere/at/all"], "the state root /nowhere/at/all does not exist; create it first"),
        (["--backup-root", "/nowhere/at/all"], "the backup root /nowhere/at/all does not exist; create it first"),
        (["--backup-root", "relative"], "--backup-root"),
        (["--backup-recipient", "age1xyz"], "'age1xyz' is not an age public key"),
        (["--secrets-root", "/dev/null"], "the secrets root /dev/null is not a directory"),
        (["--secrets-root", "/" + "a" * 5_000], "the secrets root"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_clear_line(serve: Serve, arguments: list[str], said: str) -> None:
    result, config = serve(*arguments)
    assert said in complaint(result)
    assert config is None


def test_a_failed_start_is_one_clear_line(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def __init__(self, *_: object) -> None:
            raise StartupError("a sentence for the operator")

    serve()
    monkeypatch.setattr(server, "Server", Server)
    result = CliRunner().invoke(main, ["serve", "--secrets-root", str(Path(__file__).parent)])
    assert (2, "Error: a sentence for the operator") == (result.exit_code, complaint(result))


def _started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, which must end by itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CONTAINER_MANAGER_")}
    env |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    command = [sys.executable, "-m", "container_manager", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("address", ["nonsense", "unix:///", "tcp://0.0.0.0:1", "unix:///" + "a" * 108])
def test_a_bad_listen_address_ends_the_process_with_one_line(tmp_path: Path, address: str) -> None:
    ended = _started("serve", "--secrets-root", str(tmp_path), "--listen", address)
    assert 2 == ended.returncode
    assert "" == ended.stdout
    assert ended.stderr.startswith("Error: ")
    assert 1 == len(ended.stderr.strip().splitlines())


def test_a_socket_mode_for_everybody_ends_the_process_with_one_line(tmp_path: Path) -> None:
    ended = _started("serve", "--secrets-root", str(tmp_path), "--socket-mode", "0666")
    assert (2, "") == (ended.returncode, ended.stdout)
    assert ended.stderr.startswith("Error: the socket mode 0666 gives rights to every user")
    assert 1 == len(ended.stderr.strip().splitlines())


def test_an_address_in_use_is_no_fault_of_the_configuration(tmp_path: Path) -> None:
    """A service manager tries again after status 1, and never after 2."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        token = str(tmp_path / "token")
        ended = _started("serve", "--secrets-root", str(tmp_path), "--listen", address, "--token-file", token)
    assert 1 == ended.returncode
    assert f"Error: cannot listen on {address}: Address already in use" in ended.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["root", "parent"])
def test_a_root_that_this_user_cannot_read_is_one_clear_line(tmp_path: Path, closed: str) -> None:
    (tmp_path / "a" / "secrets").mkdir(parents=True)
    for parent in tmp_path.parents[:-1]:
        if parent.name.startswith("pytest"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    (tmp_path / "a" / "secrets" if closed == "root" else tmp_path / "a").chmod(0o700)
    code = (
        "import os, sys; from container_manager.cli import main; from pathlib import Path;"
        "os.setgid(65534); os.setuid(65534); main(['serve', '--secrets-root', sys.argv[1]])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    root = str(tmp_path / "a" / "secrets")
    ended = subprocess.run(
        [sys.executable, "-c", code, root], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    line = f"Error: the secrets root {root} cannot be read by this user; run it as the owner of the root\n"
    assert (2, line) == (ended.returncode, ended.stderr)


def test_help_lists_every_option_with_its_variable() -> None:
    result = CliRunner().invoke(main, ["serve", "--help"])
    assert 0 == result.exit_code
    options = [option for option in command.params if option.name != "help"]
    assert len(options) > 20
    for option in options:
        assert option.opts[0] in result.output
        assert f"CONTAINER_MANAGER_{str(option.name).upper()}" in result.output


def test_help_is_quick_and_loads_neither_grpc_nor_the_sdk() -> None:
    code = (
        "import sys; from container_manager.cli import main; main(['serve', '-h'], standalone_mode=False);"
        "sys.exit(bool({'grpc', 'docker'} & set(sys.modules)))"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """The environment of a process with the imports of this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_version_is_the_packages() -> None:
    try:
        version = importlib.metadata.version("botmaker-container-manager")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    result = CliRunner().invoke(main, ["--version"])
    assert (0, True) == (result.exit_code, version in result.output)
