"""What a cut network does to a bot with a shared state and to one whose state is on its node, as docs/swarm.md says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.config import BackendConfig, ServerConfig, SwarmConfig
from container_manager_client import connect
from dev import docker_command
from dev.swarm import Node, SwarmBed
from tests.support.calls import Calls
from tests.support.serving import running_server
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.waiting import wait_until

# Writes its start and its end, and several times a second which run it is.
SCRIPT = """
cd /home/node/.openclaw
read run </proc/sys/kernel/random/uuid
trap 'echo end >>runs; exit 0' TERM
echo start >>runs
while :; do echo $run >>lines; sleep 0.2; done
"""
WRITES = ("sh", "-c", SCRIPT)


@pytest.fixture
def pinning(swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path) -> Iterator[Calls]:
    """Calls to a service that keeps states on the nodes."""
    swarm = replace(swarm_config, placement="pinned")
    config = ServerConfig(service=swarm_service, swarm=swarm, listen=(f"unix://{session_dir}/pinned/s.sock",))
    with (
        running_server(config, backend=partial(SwarmBackend, swarm_service, swarm)) as (address,),
        connect(address) as channel,
    ):
        yield Calls(ContainerManagerStub(channel))


@pytest.mark.slow
def test_a_bot_with_a_shared_state_runs_twice_until_the_network_heals_and_a_pinned_one_only_when_it_does(
    bed: SwarmBed, bots: SwarmBots, calls: Calls, pinning: Calls
) -> None:
    manager, cut, other = bed.nodes
    for node in (manager, other):
        bots.drain(node.name)
    floating, pinned = bots.new(), bots.new()
    calls.run(floating, *WRITES)
    pinning.run(pinned, *WRITES)
    bots.activate_nodes()
    bots.drain(manager.name)
    lines = bed.shared / floating / "lines"
    cut.cut_link()
    wait_until(lambda: runs_on(calls, floating, other), "the other node runs a copy")
    known = len(lines.read_text().split())
    wait_until(lambda: 2 == len(set(lines.read_text().split()[known:])), "both copies write the state")
    assert [cut.name, other.name] == copies(bed, floating)
    status = pinning.status(pinned)
    assert status is not None
    waits = (pb.CONTAINER_STATE_RESTARTING, cut.name, True)
    assert waits == (status.state, status.node, status.node_unreachable)
    assert [cut.name] == copies(bed, pinned)

    cut.heal_link()
    wait_until(lambda: copies(bed, floating) == [other.name], "one copy is left", 20)
    wait_until(lambda: reachable(pinning, pinned), "the pinned bot runs and can be reached")
    wait_until(lambda: copies(bed, pinned) == [cut.name], "one run is left", 20)
    _, runs = container_of(bed, bots, pinned).run("cat", "/home/node/.openclaw/runs")
    # The new run may begin before the end of the one before.
    assert ["end", "start", "start"] == sorted(runs.split())
    pinning.remove(pinned)
    # The node's engine removes the containers of the runs a moment later.
    remove = (cut.docker_url, "volume", "rm", f"botmaker-{pinned}")
    wait_until(lambda: docker_command.succeeds(*remove), "the state is removed")


def copies(bed: SwarmBed, bot_id: str) -> list[str]:
    """The nodes on which a container of the bot runs, by their own engines."""
    ps = ("ps", "--quiet", "--filter", f"label=botmaker.bot-id={bot_id}")
    found = {node.name: docker_command.run(node.docker_url, *ps).split() for node in bed.nodes}
    return [name for name, ids in found.items() for _ in ids]


def runs_on(calls: Calls, bot_id: str, node: Node) -> bool:
    status = calls.status(bot_id)
    return status is not None and (status.state, status.node) == (pb.CONTAINER_STATE_RUNNING, node.name)


def reachable(calls: Calls, bot_id: str) -> bool:
    status = calls.status(bot_id)
    return status is not None and status.state == pb.CONTAINER_STATE_RUNNING and not status.node_unreachable
