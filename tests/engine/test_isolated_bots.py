"""``--bot-network isolated``: what bots reach then, on an engine that manages its firewall."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, ServerConfig
from container_manager.model import BotNetwork, container_name
from container_manager_client import connect
from dev.images import ensure_test_image
from tests.support.bots import Bots
from tests.support.calls import Calls
from tests.support.firewalled_engine import FirewalledEngine, firewalled_engine
from tests.support.serving import running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a private engine needs root")

SERVE = ("httpd", "-f", "-p", "8080", "-h", "/tmp")


@dataclass
class Pair:
    """Two bots with networks of their own. Both serve a port, and publish it: on loopback, and everywhere."""

    engine: FirewalledEngine
    bots: Bots
    on_loopback: str
    everywhere: str

    def reaches(self, bot_id: str, host: str, port: int) -> bool:
        """Whether a connection from the bot's container is accepted."""
        container = self.bots.engine.containers.get(container_name(bot_id))
        done = container.exec_run(["nc", "-w", "2", host, str(port)])
        assert done.exit_code in (0, 1), done.output
        return bool(done.exit_code == 0)

    def network(self, bot_id: str) -> dict[str, str]:
        """The bot's only network."""
        (network,) = self.bots.inspect(bot_id)["NetworkSettings"]["Networks"].values()
        return dict(network)

    def published(self, bot_id: str) -> int:
        """The bot's port of the host."""
        ((binding, *_),) = self.bots.inspect(bot_id)["NetworkSettings"]["Ports"].values()
        return int(binding["HostPort"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, session_dir: Path, secrets_root: Path) -> Iterator[Pair]:
    with firewalled_engine(tmp_path_factory.mktemp("firewalled")) as engine:
        url = engine.engine.url
        service = BackendConfig(
            secrets_root=RootDirectory(secrets_root, secrets_root),
            docker_host=url,
            default_image=ensure_test_image(url),
            bot_network=BotNetwork.ISOLATED,
        )
        client = docker.DockerClient(base_url=url, version="auto")
        bots = Bots(client, secrets_root)
        config = ServerConfig(service=service, listen=(f"unix://{session_dir}/isolated/s.sock",))
        with running_server(config) as addresses, connect(addresses[0]) as channel:
            calls = Calls(ContainerManagerStub(channel))
            pair = Pair(engine, bots, bots.new(), bots.new())
            for bot_id, host_ip in ((pair.on_loopback, ""), (pair.everywhere, "0.0.0.0")):
                calls.run(bot_id, *SERVE, ports=[pb.PortBinding(container_port=8080, host_ip=host_ip)])
            for bot_id in (pair.on_loopback, pair.everywhere):
                wait_until(lambda bot_id=bot_id: pair.reaches(bot_id, "127.0.0.1", 8080), "it serves")
            yield pair
            for bot_id in bots.ids:
                calls.remove(bot_id, 0)
            assert [] == client.networks.list(filters={"label": "botmaker.managed=true"})
        client.close()


def test_conformance_21_two_bots_on_isolated_networks_cannot_reach_each_other(pair: Pair) -> None:
    for asking, serving in ((pair.on_loopback, pair.everywhere), (pair.everywhere, pair.on_loopback)):
        assert not pair.reaches(asking, pair.network(serving)["IPAddress"], 8080)


def test_conformance_21_both_reach_the_outside(pair: Pair) -> None:
    gateway = pair.engine.gateway()
    with socketserver.ThreadingTCPServer((gateway, 0), socketserver.BaseRequestHandler) as outside:
        threading.Thread(target=outside.serve_forever, args=(0.05,)).start()
        reached = [
            pair.reaches(bot_id, gateway, outside.server_address[1]) for bot_id in (pair.on_loopback, pair.everywhere)
        ]
        outside.shutdown()
    assert [True, True] == reached


def test_published_ports_of_isolated_bots_work(pair: Pair) -> None:
    for bot_id in (pair.on_loopback, pair.everywhere):
        assert pair.engine.reaches("127.0.0.1", pair.published(bot_id))


def test_a_port_on_loopback_is_out_of_reach_of_other_bots_and_one_on_all_addresses_is_not(pair: Pair) -> None:
    """An isolated bot reaches the host by its own gateway's address, and so what the host publishes there."""
    for asking, serving, is_reached in (
        (pair.everywhere, pair.on_loopback, False),
        (pair.on_loopback, pair.everywhere, True),
    ):
        host = pair.network(asking)["Gateway"]
        assert is_reached is pair.reaches(asking, host, pair.published(serving))
