"""The bridge of a private engine, which its containers share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import bridge as bridges

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making a bridge needs root")


@pytest.fixture
def bridge() -> Iterator[bridges.Bridge]:
    made = bridges.create()
    yield made
    bridges.remove(made)


def test_containers_that_come_and_go_leave_the_gateway_its_hardware_address(bridge: bridges.Bridge) -> None:
    """Otherwise those that stay send to a former address for up to a minute, and long downloads die."""
    port = bridge.name.replace("bm-", "bp-")
    before = _hardware_address(bridge)
    bridges.run("ip", "link", "add", port, "address", "02:00:00:00:00:01", "type", "veth")
    try:
        bridges.run("ip", "link", "set", port, "master", bridge.name, "up")
        beside = _hardware_address(bridge)
    finally:
        subprocess.run(["ip", "link", "delete", port], capture_output=True, check=True)
    assert (before, before) == (beside, _hardware_address(bridge))


def _hardware_address(bridge: bridges.Bridge) -> str:
    return Path("/sys/class/net", bridge.name, "address").read_text(encoding="ascii").strip()
