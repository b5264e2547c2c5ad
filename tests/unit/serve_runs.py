"""Runs ``container-manager serve`` in the test's own process, with a server that only keeps its config."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from container_manager.cli import main
from container_manager.config import ServerConfig
from container_manager.rpc import server

Serve = Callable[..., tuple[Result, ServerConfig | None]]


def serve_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Runs ``serve``; by default the secrets root exists."""
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
