"""What keeps ``serve`` from starting is one clear line and an exit code, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from container_manager.cli import main
from container_manager.errors import StartupError
from container_manager.rpc import server
from tests.support.child_environment import child_environment
from tests.unit.serve_runs import Serve, complaint


def test_a_file_of_actions_with_an_error_keeps_it_from_starting(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "actions.toml"
    file.write_text('[[action]]\nname = "a"\ncommand = "b"\n')
    result, config = serve("--actions", str(file))
    assert (2, None) == (result.exit_code, config)
    assert complaint(result).startswith(f"Error: {file}:3: command: is required")


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
        (["--state-mount", "/var"], "would hide /var/run/secrets"),
        (["--state-mount", "/var/run"], "would hide /var/run/secrets"),
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


def _started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process, which must end by itself."""
    env = {name: value for name, value in child_environment().items() if not name.startswith("CONTAINER_MANAGER_")}
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
    root = str(tmp_path / "a" / "secrets")
    ended = subprocess.run(
        [sys.executable, "-c", code, root],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    line = f"Error: the secrets root {root} cannot be read by this user; run it as the owner of the root\n"
    assert (2, line) == (ended.returncode, ended.stderr)
