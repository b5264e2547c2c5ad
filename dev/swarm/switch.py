"""What connects the nodes: a bridge in a network namespace that nothing else uses, and an image registry beside it."""

import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from dev.registry import registry_listens, registry_program, registry_settings
from dev.remains import wait_for
from dev.swarm.machine import Machine, SwarmError

NETWORK = IPv4Network("10.219.0.0/24")
"""The same in every bed: it exists only within the bed's own namespaces."""
GATEWAY = NETWORK[1]
_PORT = 5000
REGISTRY = f"{GATEWAY}:{_PORT}"
_REGISTRY_SECONDS = 20


class Switch:
    """States: off -> start() -> on, until its processes are killed. `directory` has the registry's data and the log."""

    def __init__(self, mark: str, directory: Path) -> None:
        self._directory = directory
        self.machine = Machine(mark, directory / "switch.log")

    def start(self) -> None:
        """Make the bridge and start the registry."""
        self.machine.start("switch")
        bridge = f"link add br0 address {_hardware_address(GATEWAY)} type bridge"
        self._ip("link set lo up", bridge, f"addr add {GATEWAY}/24 dev br0", "link set br0 up")
        config = self._directory / "registry.yml"
        config.write_text(registry_settings(REGISTRY, self._directory / "registry"), encoding="utf-8")
        try:
            registry = self.machine.spawn(registry_program(), "serve", str(config))
        except LookupError as error:
            raise SwarmError(str(error)) from error
        pid = self.machine.pid
        wait_for(lambda: registry.poll() is not None or registry_listens(pid, _PORT), _REGISTRY_SECONDS)
        if registry.poll() is not None or not registry_listens(pid, _PORT):
            raise SwarmError(f"the registry did not start: see {self._directory}/switch.log")

    def plug(self, name: str, node: Machine, address: str) -> None:
        """Connect a node that is on by a cable of this name."""
        self.unplug(name)
        peer = f"peer name eth0 address {_hardware_address(IPv4Address(address))} netns {node.pid}"
        self._ip(f"link add {name} type veth {peer}", f"link set {name} master br0 up")
        # Without a default route: what looks for a name or a host elsewhere fails at once.
        commands = ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"]
        node.run(["ip", "-batch", "-"], "net", stdin="\n".join(commands))

    def unplug(self, name: str) -> None:
        """Remove the cable, if it is there."""
        command = [*self.machine.enter("net"), "ip", "link", "delete", name]
        subprocess.run(command, capture_output=True, check=False)

    def cut(self, name: str) -> None:
        """Lose every frame of this cable without a sign; to the node it looks plugged in."""
        self._ip(f"link set {name} nomaster")

    def heal(self, name: str) -> None:
        """Undo cut()."""
        self._ip(f"link set {name} master br0")

    def _ip(self, *commands: str) -> None:
        self.machine.run(["ip", "-batch", "-"], "net", stdin="\n".join(commands))


def _hardware_address(address: IPv4Address) -> str:
    """One that stays the same, as a network card's does: else a bridge changes its own with each cable that it gets or
    loses, and a node with each boot, and for a while the others send to the old one.
    """
    return "02:00:" + ":".join(f"{part:02x}" for part in address.packed)
