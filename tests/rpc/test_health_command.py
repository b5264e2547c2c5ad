"""``container-manager health``: one clear line and an exit status, for health checks and scripts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from container_manager.cli import main
from tests.rpc.conftest import ServeOn
from tests.support.certificates import Authority, server_files
from tests.support.memory_backend import MemoryBackend
from tests.support.memory_store import Gate
from tests.support.waiting import wait_until

LISTEN = "CONTAINER_MANAGER_LISTEN"
DEFAULT = "unix:///run/botmaker/container-manager.sock"


def health(*arguments: str, listen: str | None = None) -> Result:
    """Run the command, with the variable of ``--listen`` as given."""
    return CliRunner().invoke(main, ["health", *arguments], env={LISTEN: listen})


def said(result: Result) -> tuple[int, str]:
    """The exit status, and the one line."""
    (line,) = result.output.splitlines()
    return result.exit_code, line


def test_a_service_whose_engine_answers_is_0(grpc_server: list[str]) -> None:
    wait_until(lambda: health("--address", grpc_server[0]).exit_code == 0, "it serves", 60)
    assert (0, f"{grpc_server[0]} is serving") == said(health("--address", grpc_server[0]))


def test_a_service_whose_engine_does_not_answer_is_1(memory: MemoryBackend, grpc_server: list[str]) -> None:
    memory.script("ping", Gate())
    wait_until(lambda: health("--address", grpc_server[0]).exit_code == 1, "it no longer serves", 60)
    line = f"Error: {grpc_server[0]} is not serving: the service runs, but its Docker Engine does not answer"
    assert (1, line) == said(health("--address", grpc_server[0]))


def test_the_first_address_of_the_services_variable_is_asked(grpc_server: list[str]) -> None:
    wait_until(lambda: health("--address", grpc_server[0]).exit_code == 0, "it serves", 60)
    assert (0, f"{grpc_server[0]} is serving") == said(health(listen=f"{grpc_server[0]} tcp://127.0.0.1:1"))


@pytest.mark.parametrize("listen", [None, "", "  "])
def test_without_an_address_the_default_socket_is_asked(listen: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("container_manager.cli.health_probe.probe_health", lambda *given: asked.append(given))
    assert (0, f"{DEFAULT} is serving") == said(health(listen=listen))
    assert [(DEFAULT, 5)] == asked


def test_a_tcp_listener_needs_no_token_for_it(serve_on: ServeOn, tmp_path: Path) -> None:
    with serve_on("tcp://127.0.0.1:0", token_file=tmp_path / "token") as (address,):
        wait_until(lambda: health("--address", address).exit_code == 0, "it serves", 60)


def test_a_listener_with_tls_is_told_to_need_the_unix_socket(serve_on: ServeOn, tmp_path: Path) -> None:
    tls = server_files(tmp_path, Authority())
    with serve_on("tcp://127.0.0.1:0", token_file=tmp_path / "t", tls=tls) as (address,):
        code, line = said(health("--address", address))
    assert (1, True) == (code, line.endswith("a listener with TLS cannot be asked: use the unix socket"))


def test_a_missing_socket_is_1_with_the_systems_own_words(session_dir: Path) -> None:
    address = f"unix://{session_dir}/nobody.sock"
    code, line = said(health("--address", address))
    # Older versions of gRPC add the number.
    told = f"Error: {address} cannot be reached: No such file or directory"
    assert (1, told) == (code, line.removesuffix(" (2)"))


def test_a_service_that_does_not_answer_is_1_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        code, line = said(health("--address", address, "--timeout-seconds", "0.5"))
    assert (1, True) == (code, line.startswith(f"Error: {address} "))


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "unix://relative", f"unix:///{'a' * 107}", ""])
def test_an_invalid_address_is_a_wrong_option(address: str) -> None:
    result = health("--address", address)
    assert (2, True) == (result.exit_code, "Error: Invalid value for --address: " in result.output)


def test_as_a_process_it_writes_nothing_but_its_line(session_dir: Path) -> None:
    address = f"unix://{session_dir}/nobody.sock"
    command = [sys.executable, "-m", "container_manager", "health", "--address", address]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (1, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
