"""A network namespace with a way out: what an engine writes into its firewall is gone with it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from dev import bridge as bridges
from dev.debian import add_system_paths


@contextlib.contextmanager
def network_namespace() -> Iterator[list[str]]:
    """Make one; yield the words to put before a command that shall run in it. Needs root."""
    add_system_paths()
    bridge = bridges.create()
    name, outside, inside = f"bm-ns-{os.getpid()}", bridge.name.replace("bm-", "bo-"), bridge.name.replace("bm-", "bi-")
    enter = ["nsenter", f"--net=/run/netns/{name}"]
    gateway, own = str(bridge.pool[1]), f"{bridge.pool[2]}/24"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _run("ip", "link", "set", outside, "master", bridge.name, "up")
        _run(*enter, "ip", "link", "set", "lo", "up")
        _run(*enter, "ip", "addr", "add", own, "dev", inside)
        _run(*enter, "ip", "link", "set", inside, "up")
        _run(*enter, "ip", "route", "add", "default", "via", gateway)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", outside], capture_output=True, check=False)
        bridges.remove(bridge)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
