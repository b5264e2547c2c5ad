"""The example API tier as a process, with its own service on the real engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.serving import ServerProcess
from tests.support.waiting import wait_until

APP = Path(__file__).parents[2] / "examples" / "api_tier"
UID = 54_402
MEMBERS = 54_322


@dataclass
class ApiTier:
    """Both processes, and an HTTP client of the example."""

    http: httpx.Client
    service: ServerProcess
    service_arguments: list[str]
    state_root: Path
    log: Path
    """What the example has logged."""

    def stop_service(self) -> None:
        """Stop the service."""
        self.service.terminate()
        assert 0 == self.service.wait()
        self.service.close()

    def start_service(self) -> None:
        """Start it again."""
        self.service = ServerProcess(self.service_arguments, self.service.log)

    def restart_service(self) -> None:
        """Stop the service and start it again."""
        self.stop_service()
        self.start_service()


def _only_with_the_sockets_group() -> list[str]:
    """Runs a command as a user without any right but that of the socket's group; by root only."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    return ["setpriv", "--reuid", str(UID), "--regid", str(MEMBERS), "--clear-groups", "--no-new-privs"]


@pytest.fixture(scope="module")
def api_tier(
    engine_url: str,
    secrets_root: Path,
    session_dir: Path,
    test_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ApiTier]:
    tmp_path = tmp_path_factory.mktemp("api-tier")
    target = f"unix://{session_dir}/example/s.sock"
    state_root = session_dir / "example-state"
    state_root.mkdir(mode=0o755)
    prefix = _only_with_the_sockets_group()
    arguments = {"--listen": target, "--docker-host": engine_url, "--default-image": test_image}
    arguments |= {"--secrets-root": str(secrets_root), "--state-root": str(state_root)}
    arguments |= {"--socket-group": str(MEMBERS)} if prefix else {}
    flat = [part for pair in arguments.items() for part in pair]
    service = ServerProcess(flat, tmp_path / "service.log")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APP), "--fd", str(listener.fileno()), "app:app"]
        with (tmp_path / "uvicorn.log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, *command],
                env={**os.environ, "CONTAINER_MANAGER_TARGET": target},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tier = None
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            tier = ApiTier(http, service, flat, state_root, tmp_path / "uvicorn.log")
            wait_until(lambda: "startup complete" in tier.log.read_text(), "the example serves")
            yield tier
    finally:
        process.terminate()
        process.wait(60)
        (tier.service if tier else service).close()
