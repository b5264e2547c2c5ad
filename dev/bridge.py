"""A network bridge for one engine, with addresses and NAT rules of its own.

An engine that manages iptables itself empties the chains DOCKER and DOCKER-ISOLATION-* when it starts, those of an
engine beside it included. So a private engine runs with --iptables=false, and has the few rules it needs from here.
"""

import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

# Private addresses that neither Docker's default pools (172.17-31, 192.168) nor Kubernetes' usual ones use.
_BLOCKS = [IPv4Network(block) for block in IPv4Network("10.208.0.0/13").subnets(new_prefix=20)]


@dataclass(frozen=True)
class Bridge:
    """A bridge named `name`. Its own network is the first /24 of `pool`; the whole pool is let out by NAT."""

    name: str
    pool: IPv4Network

    def rules(self) -> list[tuple[str, str, list[str]]]:
        """Table, chain and rule, each tagged with the bridge's name."""
        pool, tag = str(self.pool), ["-m", "comment", "--comment", self.name]
        back = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
        return [
            ("nat", "POSTROUTING", ["-s", pool, "!", "-d", pool, *tag, "-j", "MASQUERADE"]),
            ("filter", "FORWARD", ["-s", pool, *tag, "-j", "ACCEPT"]),
            ("filter", "FORWARD", ["-d", pool, *back, *tag, "-j", "ACCEPT"]),
        ]


def create(prefer: IPv4Network | None = None) -> Bridge:
    """Make a bridge with a free block of addresses, `prefer` first, and a name made of it."""
    with _exclusive():
        used = _used()
        for block in [prefer, *_BLOCKS] if prefer else _BLOCKS:
            if not any(block.overlaps(network) for network in used):
                break
        else:
            raise OSError(f"no free block of addresses among {_BLOCKS[0]} to {_BLOCKS[-1]}")
        _, second, third, _ = str(block.network_address).split(".")
        bridge = Bridge(f"bm-{second}-{third}", block)
        # A bridge without a fixed address has the lowest of its ports', which changes as containers come and go. Those
        # that stay send to the former one for up to a minute, and no one answers.
        run("ip", "link", "add", bridge.name, "address", _mac(block), "type", "bridge")
        run("ip", "addr", "add", f"{block[1]}/24", "brd", "+", "dev", bridge.name)
        run("ip", "link", "set", bridge.name, "up")
    allow(bridge)
    return bridge


def exists(bridge: Bridge) -> bool:
    """Whether the bridge is there."""
    return any(link["ifname"] == bridge.name for link in _ip("link", "show", "type", "bridge"))


def allow(bridge: Bridge) -> None:
    """Let the pool's containers out, and answers back in, unless the rules are there already."""
    for table, chain, rule in bridge.rules():
        if not _iptables(table, "-C", chain, rule):
            run("iptables", "-w", "-t", table, "-I", chain, *rule)


def remove(bridge: Bridge, others: Iterable[str] = ()) -> None:
    """Remove the rules, the bridge, and `others`: an engine leaves its networks' bridges."""
    for table, chain, rule in bridge.rules():
        while _iptables(table, "-D", chain, rule):
            pass
    for name in (bridge.name, *others):
        subprocess.run(["ip", "link", "delete", name, "type", "bridge"], capture_output=True, check=False)


def run(*command: str) -> str:
    """Run it; what it printed. Raises OSError with its errors if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _mac(block: IPv4Network) -> str:
    """A locally administered address, made of the bridge's own as Docker does it."""
    return "02:42:" + block[1].packed.hex(":")


def _addresses(link: dict[str, Any]) -> list[IPv4Network]:
    infos = [info for info in link.get("addr_info", []) if info.get("family") == "inet"]
    return [IPv4Network(f"{info['local']}/{info['prefixlen']}", strict=False) for info in infos]


def _used() -> list[IPv4Network]:
    """Every network that has a route or an address here."""
    routes = [route["dst"] for route in _ip("-4", "route", "show", "table", "all") if "dst" in route]
    networks = [IPv4Network(route) for route in routes if route[0].isdigit()]
    return networks + [network for link in _ip("-4", "addr", "show") for network in _addresses(link)]


def _ip(*arguments: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(run("ip", "-json", *arguments) or "[]")
    return [entry for entry in entries if entry]


def _iptables(table: str, action: str, chain: str, rule: list[str]) -> bool:
    command = ["iptables", "-w", "-t", table, action, chain, *rule]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    """Two engines that start at once must not pick the same block; a lock on a directory leaves no file behind."""
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
