"""What a bot can reach over its network, and what it cannot, as docs/security.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, Calls
from tests.support.serving import running_server
from tests.support.waiting import wait_until

SERVE = ("httpd", "-f", "-p", "8080", "-h", "/tmp")


def reaches(bots: Bots, bot_id: str, host: str, port: int | str) -> bool:
    """Whether a connection from the bot's container is accepted."""
    done = bots.engine.containers.get(f"botmaker-{bot_id}").exec_run(["nc", "-w", "2", host, str(port)])
    assert done.exit_code in (0, 1), done.output
    return done.exit_code == 0


def address_of(bots: Bots, bot_id: str, network: str) -> str:
    """The bot's address in a network."""
    return bots.inspect(bot_id)["NetworkSettings"]["Networks"][network]["IPAddress"]


def test_bots_on_the_default_bridge_reach_one_anothers_unpublished_ports(calls: Calls, bots: Bots) -> None:
    asking, serving = bots.new(), bots.new()
    calls.run(asking, *FOREVER)
    calls.run(serving, *SERVE)
    address = address_of(bots, serving, "bridge")
    wait_until(lambda: reaches(bots, asking, address, 8080), "another bot's port is reached")


def test_a_bot_without_a_network_reaches_no_other(calls: Calls, bots: Bots) -> None:
    serving, alone = bots.new(), bots.new()
    calls.run(serving, *SERVE)
    calls.run(alone, *FOREVER, network="none")
    address = address_of(bots, serving, "bridge")
    wait_until(lambda: reaches(bots, serving, address, 8080), "it serves")
    assert not reaches(bots, alone, address, 8080)


@pytest.mark.parametrize("host", ["host.internal", "127.0.0.1"])
def test_the_services_loopback_listener_is_out_of_a_bots_reach(
    service_config: BackendConfig, session_dir: Path, bots: Bots, host: str
) -> None:
    listen = (f"unix://{session_dir}/reach/s.sock", "tcp://127.0.0.1:0")
    config = ServerConfig(service=service_config, listen=listen, insecure_no_auth=True)
    with running_server(config) as addresses, connect(addresses[0]) as channel:
        bot_id = bots.new()
        Calls(ContainerManagerStub(channel)).run(bot_id, *FOREVER, extra_hosts={"host.internal": "host-gateway"})
        assert not reaches(bots, bot_id, host, addresses[1].rpartition(":")[2])
