"""A private engine that manages its firewall, as an ordinary one does, in a network namespace of its own.

The tests' other engines run without: an engine that starts empties the chains of an engine beside it.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.engine import PrivateEngine
from dev.engines.network import network_namespace

# The engine's bridge is in the namespace as well.
_DOCKERD = """#!/bin/sh
for argument; do
    shift
    case $argument in
        --iptables=* | --ip6tables=*) continue ;;
        --bridge=*) bridge=${{argument#*=}} ;;
    esac
    set -- "$@" "$argument"
done
if {enter} ip link add "$bridge" type bridge 2>/dev/null; then
    {enter} ip addr add 172.30.0.1/24 dev "$bridge"
    {enter} ip link set "$bridge" up
fi
exec {enter} dockerd "$@"
"""


@dataclass(frozen=True)
class FirewalledEngine:
    """The engine, and where it is."""

    engine: PrivateEngine
    enter: list[str]
    """The words to put before a command that shall run on the engine's side."""

    def reaches(self, host: str, port: int) -> bool:
        """Whether a connection from the engine's host is accepted."""
        done = subprocess.run(
            [*self.enter, "python3", "-c", f"import socket; socket.create_connection(({host!r}, {port}), 2)"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def gateway(self) -> str:
        """An address of this machine, which is outside for the engine's containers."""
        done = subprocess.run([*self.enter, "ip", "route"], capture_output=True, check=True, text=True)
        return done.stdout.split("default via ")[1].split()[0]


@contextmanager
def firewalled_engine(directory: Path) -> Iterator[FirewalledEngine]:
    """Start one. Needs root."""
    with network_namespace() as enter:
        dockerd = directory / "dockerd"
        dockerd.write_text(_DOCKERD.format(enter=shlex.join(enter)))
        dockerd.chmod(0o755)
        with PrivateEngine(directory / "engine", dockerd=str(dockerd)) as engine:
            yield FirewalledEngine(engine, enter)
