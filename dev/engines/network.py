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
        bridges.run("ip", "netns", "add", name)
        bridges.run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        bridges.run("ip", "link", "set", outside, "master", bridge.name, "up")
        bridges.run(*enter, "ip", "link", "set", "lo", "up")
        bridges.run(*enter, "ip", "addr", "add", own, "dev", inside)
        bridges.run(*enter, "ip", "link", "set", inside, "up")
        bridges.run(*enter, "ip", "route", "add", "default", "via", gateway)
        yield enter
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", outside], capture_output=True, check=False)
        bridges.remove(bridge)
