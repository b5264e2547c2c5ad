"""The program itself: its help and version, what it loads, and what it says when it serves."""

from __future__ import annotations

import gc
import importlib.metadata
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from container_manager.cli import main
from container_manager.cli.serve import serve as command
from tests.support.child_environment import child_environment
from tests.unit.serve_runs import Serve


def test_it_says_where_it_serves_in_one_line(serve: Serve) -> None:
    result, _ = serve()
    assert (0, "container-manager serving on unix:///a tcp://127.0.0.1:1\n") == (result.exit_code, result.output)


def test_the_garbage_collector_is_tuned_when_it_serves_and_not_by_loading_the_server(serve: Serve) -> None:
    code = (
        "import gc, container_manager.cli, container_manager.rpc.server; print(gc.get_freeze_count(), gc.isenabled())"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=True
    )
    before = gc.get_threshold()
    serve()
    assert ("0 True", True) == (loaded.stdout.strip(), gc.isenabled())
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold() > before


@pytest.mark.parametrize(("most", "expected"), [(65_536, 512), (300, 300), (100, 256)])
def test_it_raises_its_soft_limit_of_descriptors_to_the_hard_one_or_to_the_most_that_it_needs(
    tmp_path: Path, most: int, expected: int
) -> None:
    """In a process of its own: a hard limit cannot be raised again."""
    code = (
        "import resource, sys; from container_manager.cli import main; from container_manager.rpc import server;"
        "sys.modules['container_manager.cli.serve']._MOST_DESCRIPTORS = int(sys.argv[1]);"
        "server.Server = lambda *_: sys.exit(print(*resource.getrlimit(resource.RLIMIT_NOFILE)));"
        "main(['serve', '--secrets-root', sys.argv[2]])"
    )
    limited = [
        "sh",
        "-c",
        'ulimit -Sn 256; ulimit -Hn 512; exec "$@"',
        "sh",
        sys.executable,
        "-c",
        code,
        str(most),
        str(tmp_path),
    ]
    shown = subprocess.run(limited, env=child_environment(), capture_output=True, text=True, check=True)
    assert f"{expected} 512" == shown.stdout.strip()


@pytest.mark.parametrize("failure", [ValueError("not allowed"), PermissionError(1, "no")], ids=repr)
def test_it_serves_also_if_the_kernel_refuses_the_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """The test injects the refusal: the kernel's own limit is the whole machine's."""
    get, put = resource.getrlimit, resource.setrlimit
    refused = []

    def limit(kind: int, limits: tuple[int, int]) -> None:
        if kind == resource.RLIMIT_NOFILE:
            refused.append(limits)
            raise failure
        put(kind, limits)

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 512) if kind == resource.RLIMIT_NOFILE else get(kind))
    monkeypatch.setattr(resource, "setrlimit", limit)
    result, _ = serve()
    assert (0, [(512, 512)]) == (result.exit_code, refused)


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
    assert 0 == subprocess.run([sys.executable, "-c", code], env=child_environment(), check=False).returncode


def test_version_is_the_packages() -> None:
    try:
        version = importlib.metadata.version("botmaker-container-manager")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    result = CliRunner().invoke(main, ["--version"])
    assert (0, True) == (result.exit_code, version in result.output)
