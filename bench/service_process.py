"""The service as users run it."""

from __future__ import annotations

import sys

from bench.belongings import Belongings
from bench.served_process import ServedProcess


class ServiceProcess(ServedProcess):
    """A running ContainerManager."""

    def __init__(self, belongings: Belongings, docker_host: str, name: str, *options: str) -> None:
        socket = belongings.scratch / f"{name}.d" / "cm.sock"
        command = [
            *(sys.executable, "-m", "container_manager", "serve"),
            *("--listen", f"unix://{socket}"),
            *("--docker-host", docker_host),
            *("--secrets-root", str(belongings.secrets_root)),
            *options,
        ]
        super().__init__(socket, command, belongings.scratch / f"{name}.log")
