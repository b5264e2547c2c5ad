"""Networks of bots' own: made and removed with them, kept by upgrades, and leaked by no failure."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import docker
import grpc
import pytest
from docker.models.networks import Network

from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager.model import container_name
from dev.engine import PrivateEngine
from tests.support.bots import Bots
from tests.support.calls import FOREVER, fails_with
from tests.support.config_contract import read_config
from tests.support.maintained_service import MaintainedService
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the bots of this module are root's")

Serve = Callable[..., MaintainedService]
ISOLATED = ("--bot-network", "isolated")


@pytest.fixture
def serve(engine_url: str, maintained_roots: Path, secrets_root: Path, test_image: str) -> Iterator[Serve]:
    """Starts services with further options; they share the roots."""
    services: list[MaintainedService] = []

    def start(*options: str, docker_host: str = engine_url) -> MaintainedService:
        roots, address = maintained_roots, f"unix://{maintained_roots}/{len(services)}.sock"
        arguments = ["--listen", address, "--docker-host", docker_host, "--secrets-root", str(secrets_root)]
        arguments += ["--state-root", f"{roots}/states", "--backup-root", f"{roots}/backups", "--bot-user", "0:0"]
        arguments += ["--default-image", test_image, *options]
        services.append(MaintainedService(arguments, roots / f"log{len(services)}", address))
        return services[-1]

    yield start
    for service in services:
        service.close()


def networks_of(engine: docker.DockerClient, *bot_ids: str) -> list[Network]:
    """The bots' own networks."""
    return engine.networks.list(filters={"label": "botmaker.managed=true"}, names=[*map(container_name, bot_ids)])


def network_of(bots: Bots, bot_id: str) -> list[str]:
    """The names of the networks that the bot's container has."""
    return list(bots.inspect(bot_id)["NetworkSettings"]["Networks"])


def test_a_bots_network_comes_with_it_is_kept_by_its_upgrade_and_goes_with_it(
    serve: Serve, bots: Bots, build_image: BuildImage
) -> None:
    service = serve(*ISOLATED, "--bot-network-pool", "10.202.0.0/24")
    bot_id, other, name = (one := bots.new()), bots.new(), container_name(one)
    service.calls.create(bot_id, *FOREVER)
    (network,) = networks_of(bots.engine, bot_id)
    assert [{"Subnet": "10.202.0.0/28"}] == network.attrs["IPAM"]["Config"]
    assert {"botmaker.managed": "true", "botmaker.bot-id": bot_id} == network.attrs["Labels"]
    observer = ContainerObserverStub(service.channel)
    assert "" == read_config(observer, bot_id).config.network
    service.calls.create(other, *FOREVER, network="bridge")
    assert "bridge" == read_config(observer, other).config.network
    service.calls.remove(other)

    # Under the other default, it is a network like any other, but nobody else's.
    bridged = serve()
    assert name == read_config(ContainerObserverStub(bridged.channel), bot_id).config.network
    with fails_with("INVALID_ARGUMENT", "INVALID_CONFIG"):
        bridged.calls.create(other, network=name)
    for service_, number in ((service, 1), (bridged, 2)):
        image = build_image(f"LABEL number={number}")
        *_, last = service_.upgrade(bot_id, image, f"r{number}")
        assert image == service_.calls.status(bot_id).image, last
        assert [name] == network_of(bots, bot_id)

    bridged.calls.remove(bot_id, 0)
    assert [] == networks_of(bots.engine, bot_id)


def test_a_network_that_was_pruned_is_made_anew_by_the_start(serve: Serve, bots: Bots) -> None:
    service = serve(*ISOLATED)
    stopped, created = bots.new(), bots.new()
    service.calls.run(stopped, *FOREVER)
    service.calls.stop(stopped, 0)
    service.calls.create(created, *FOREVER)
    for network in networks_of(bots.engine, stopped, created):
        network.remove()
    for bot_id in (stopped, created):
        service.calls.start(bot_id)
        assert [container_name(bot_id)] == network_of(bots, bot_id)
        assert "" == read_config(ContainerObserverStub(service.channel), bot_id).config.network
        service.calls.remove(bot_id, 0)
    assert [] == networks_of(bots.engine, stopped, created)


def test_a_network_that_is_not_the_bots_own_is_never_touched(
    serve: Serve, bots: Bots, test_image: str, test_labels: dict[str, str]
) -> None:
    service = serve(*ISOLATED)
    foreign, shared = bots.new(), bots.new()
    theirs = bots.engine.networks.create(container_name(foreign), labels=test_labels)
    with fails_with("FAILED_PRECONDITION", "NAME_IN_USE_UNMANAGED"):
        service.calls.create(foreign, *FOREVER)
    service.calls.remove(foreign)
    theirs.reload()

    # A container of the operator's beside the bot keeps the network; once it is gone, the next start removes it.
    service.calls.create(shared, *FOREVER)
    beside = bots.engine.containers.create(test_image, FOREVER, network=container_name(shared), labels=test_labels)
    service.calls.remove(shared)
    assert 1 == len(networks_of(bots.engine, shared))
    service.kill()
    beside.remove()
    service.start()
    wait_until(lambda: not networks_of(bots.engine, shared), "the network is removed")
    theirs.reload()
    theirs.remove()


def test_without_a_free_subnet_the_error_says_so_and_what_is_taken_is_skipped(
    serve: Serve, bots: Bots, test_labels: dict[str, str]
) -> None:
    pool = docker.types.IPAMPool(subnet="10.202.1.0/28")
    taken = bots.engine.networks.create(
        "botmaker-test-taken", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels=test_labels
    )
    service = serve(*ISOLATED, "--bot-network-pool", "10.202.1.0/27")
    bot_id, other = bots.new(), bots.new()
    service.calls.create(bot_id, *FOREVER)
    (network,) = networks_of(bots.engine, bot_id)
    assert [{"Subnet": "10.202.1.16/28"}] == network.attrs["IPAM"]["Config"]
    with fails_with("RESOURCE_EXHAUSTED", "CAPACITY_EXCEEDED") as caught:
        service.calls.create(other, *FOREVER)
    assert "10.202.1.0/27" in caught[0].message
    assert "--bot-network-pool" in caught[0].message
    assert service.calls.status(other) is None
    service.calls.remove(bot_id)
    taken.remove()


def disturbed(service: MaintainedService, bots: Bots, draw: random.Random, disturb: Callable[[], None]) -> list[str]:
    """Bots that are created, started and removed while the disturbance comes at any moment."""
    bot_ids = [bots.new() for _ in range(4)]

    def live(bot_id: str) -> None:
        # The channel is closed when the service is killed.
        with suppress(grpc.RpcError, ValueError):
            service.calls.create(bot_id, *FOREVER, timeout=20)
            service.calls.start(bot_id, timeout=20)
            service.calls.remove(bot_id, 0)

    with ThreadPoolExecutor(len(bot_ids)) as pool:
        lives = [pool.submit(live, bot_id) for bot_id in bot_ids]
        time.sleep(draw.random())
        disturb()
        for each in lives:
            each.result()
    return bot_ids


def settled(engine: docker.DockerClient, bot_ids: list[str]) -> bool:
    """Whether there are only networks of bots that have a container."""
    listed = engine.containers.list(all=True, filters={"label": "botmaker.managed=true"}, ignore_removed=True)
    names = {container.name for container in listed}
    return {network.name for network in networks_of(engine, *bot_ids)} <= names


def test_a_service_that_is_killed_at_any_point_leaves_no_network_behind_its_next_start(
    serve: Serve, bots: Bots
) -> None:
    service, draw = serve(*ISOLATED), random.Random("20261129 networks")
    kept = bots.new()
    service.calls.create(kept, *FOREVER)
    for _ in range(3):
        bot_ids = disturbed(service, bots, draw, service.kill)
        service.start()
        wait_until(lambda bot_ids=bot_ids: settled(bots.engine, bot_ids), "no network is left without a bot")
        for bot_id in bot_ids:
            service.calls.remove(bot_id, 0)
        assert [] == networks_of(bots.engine, *bot_ids)
    service.calls.start(kept)
    assert [container_name(kept)] == network_of(bots, kept)
    service.calls.remove(kept, 0)
    assert [] == networks_of(bots.engine, kept)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_engine_that_is_killed_at_any_point_leaves_no_network_of_a_bot_that_is_removed(
    serve: Serve, private_engine: PrivateEngine, secrets_root: Path
) -> None:
    client, draw = docker.DockerClient(base_url=private_engine.url, version="auto"), random.Random("engine")
    bots, service = Bots(client, secrets_root), serve(*ISOLATED, docker_host=private_engine.url)

    def crash() -> None:
        private_engine.kill()
        private_engine.start()

    for _ in range(4):
        bot_ids = disturbed(service, bots, draw, crash)
        wait_until(lambda: service.calls.list() is not None, "the service has found the engine")
        for bot_id in bot_ids:
            service.calls.remove(bot_id, 0)
        assert [] == networks_of(client, *bot_ids)
        again = bot_ids[0]
        service.calls.run(again, *FOREVER)
        service.calls.remove(again, 0)
    client.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_bots_have_networks_of_their_own(serve: Serve, bots: Bots) -> None:
    """The engine's own pools end after about 30."""
    service = serve(*ISOLATED)
    bot_ids = [bots.new() for _ in range(200)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda bot_id: service.calls.create(bot_id, *FOREVER), bot_ids))
        subnets = {network.attrs["IPAM"]["Config"][0]["Subnet"] for network in networks_of(bots.engine, *bot_ids)}
        list(pool.map(service.calls.remove, bot_ids))
    assert len(bot_ids) == len(subnets)
    assert [] == networks_of(bots.engine, *bot_ids)
