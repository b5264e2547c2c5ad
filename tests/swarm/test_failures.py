"""What callers see, and what becomes of bots, when machines of a swarm fail."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.swarm import task_watch
from container_manager.config import BackendConfig
from container_manager_client import connect
from dev import docker_command
from dev.swarm import Node, SwarmBed
from tests.support.botctl_process import botctl
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.serving import server_process
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.waiting import wait_until

RUNNING = pb.CONTAINER_STATE_RUNNING


def node_of(bed: SwarmBed, calls: Calls, bot_id: str) -> Node:
    """The node that the bot runs on."""
    status = calls.status(bot_id)
    assert status is not None
    return next(node for node in bed.nodes if node.name == status.node)


@pytest.fixture
def drained(bed: SwarmBed, bots: SwarmBots) -> None:
    """No bot runs on the manager, as docs/swarm.md advises."""
    bots.drain(bed.nodes[0].name)


def restarted_elsewhere(calls: Calls, bot_id: str, dead: str) -> bool:
    status = calls.status(bot_id)
    return (
        status is not None and status.state == RUNNING and status.node not in ("", dead) and not status.node_unreachable
    )


@pytest.mark.slow
@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize("fault", ["power cut", "link cut"])
def test_a_stop_and_a_remove_on_a_machine_that_is_dead_are_not_certain_and_become_true_when_it_is_back(
    bed: SwarmBed, calls: Calls, bots: SwarmBots, fault: str
) -> None:
    made = [bots.new() for _ in range(3)]
    for bot_id in made:
        calls.run(bot_id, *STUBBORN)
    # Of three bots on two workers, two are on the same one.
    places = {bot_id: node_of(bed, calls, bot_id) for bot_id in made}
    node = max(bed.workers, key=list(places.values()).count)
    stopped, removed = [bot_id for bot_id in made if places[bot_id] is node][:2]
    fail, heal = (node.power_cut, node.boot) if fault == "power cut" else (node.cut_link, node.heal_link)
    fail()
    began = time.monotonic()
    for bot_id, call in ((stopped, calls.stop), (removed, calls.remove)):
        with fails_with("UNAVAILABLE", "NODE_UNAVAILABLE") as caught:
            call(bot_id)
        assert {"bot_id": bot_id, "node": node.name} == caught[0].metadata
    # The managers miss it within twice its heartbeat of 5 s and a little more.
    assert time.monotonic() - began < 60
    status = wait_until(lambda: unreachable(calls, removed), "shown as being removed")
    assert (pb.CONTAINER_STATE_REMOVING, node.name) == (status.state, status.node)
    with fails_with("UNAVAILABLE", "NODE_UNAVAILABLE"):
        calls.create(removed, *FOREVER)
    if fault == "link cut":
        assert all(container_ids(node, bot_id) for bot_id in (stopped, removed))
        # Any further change of the service has the swarm forget what it has not seen to end.
        bots.touch(stopped)
        assert [] == bots.api.tasks(filters={"service": f"botmaker-{stopped}"})
        with fails_with("UNAVAILABLE", "NODE_UNAVAILABLE"):
            calls.remove(stopped)
    heal()
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(wait_until, lambda: stopped_for_certain(calls, node, stopped), "the stop is certain")
        wait_until(lambda: ended_for_certain(calls, node, removed), "it is gone")
        wait_until(lambda: ended_for_certain(calls, node, stopped), "it has ended")
        assert stopping.result()
    wait_until(lambda: calls.status(removed) is None, "it is removed")
    if fault == "link cut":
        wait_until(lambda: calls.status(stopped) is None, "it is removed too")
        return
    after = exited(calls, stopped)
    assert after is not None
    assert not after.node_unreachable
    calls.remove(stopped)


def container_ids(node: Node, bot_id: str) -> list[bytes]:
    """The bot's containers that run on the node, by its own engine."""
    return docker_command.run(node.docker_url, "ps", "--quiet", "--filter", f"label=botmaker.bot-id={bot_id}").split()


def stopped_for_certain(calls: Calls, node: Node, bot_id: str) -> bool:
    """Whether a stop is certain; then the node runs no container of the bot."""
    try:
        calls.stop(bot_id)
    except grpc.RpcError as exc:
        if exc.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    assert [] == container_ids(node, bot_id)
    return True


def ended_for_certain(calls: Calls, node: Node, bot_id: str) -> bool:
    """Whether the bot is shown as ended or gone; then its node runs no container of it."""
    status = calls.status(bot_id)
    if status is not None and status.state != pb.CONTAINER_STATE_EXITED:
        return False
    assert [] == container_ids(node, bot_id)
    return True


def unreachable(calls: Calls, bot_id: str) -> pb.ContainerStatus | None:
    status = calls.status(bot_id)
    return status if status is not None and status.node_unreachable else None


def exited(calls: Calls, bot_id: str) -> pb.ContainerStatus | None:
    status = calls.status(bot_id)
    return status if status is not None and status.state == pb.CONTAINER_STATE_EXITED else None


@pytest.mark.slow
@pytest.mark.usefixtures("drained")
def test_a_bot_whose_machine_dies_runs_on_another_one(bed: SwarmBed, calls: Calls, bots: SwarmBots) -> None:
    bot_id = bots.new()
    container_id = calls.run(bot_id, *FOREVER)
    node = node_of(bed, calls, bot_id)
    node.power_cut()
    wait_until(lambda: restarted_elsewhere(calls, bot_id, node.name), "it runs elsewhere")
    after = calls.status(bot_id)
    assert after is not None
    assert container_id == after.container_id
    node.boot()
    bed.wait_until_ready()
    wait_until(lambda: 1 == len([task for task in bots.tasks() if task["Status"]["State"] == "running"]), "one copy")
    assert restarted_elsewhere(calls, bot_id, node.name)


@pytest.mark.slow
def test_an_end_that_the_swarm_forgets_before_anybody_has_seen_it_is_told_by_the_nodes_engine(
    calls: Calls, bots: SwarmBots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: the tasks are looked at less often than the swarm forgets them."""
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    monkeypatch.setattr(task_watch, "_PAUSE_SECONDS", 3)
    before = time.time()
    calls.stop(bot_id)
    after = calls.status(bot_id)
    assert after is not None
    assert (pb.CONTAINER_STATE_EXITED, 7) == (after.state, after.exit_code)
    assert before < after.finish_time.ToNanoseconds() / 1e9 < time.time()


def test_no_call_hangs_when_the_manager_is_away_and_all_is_well_when_it_is_back(
    bed: SwarmBed, calls: Calls, bots: SwarmBots
) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER)
    manager = bed.nodes[0]
    manager.kill_engine()
    try:
        for call in (calls.start, calls.stop):
            began = time.monotonic()
            with pytest.raises(grpc.RpcError) as caught:
                call(bot_id, timeout=5)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert time.monotonic() - began < 8
    finally:
        manager.start_engine()
    wait_until(lambda: restarted_elsewhere(calls, bot_id, ""), "it runs")
    calls.stop(bot_id)
    assert exited(calls, bot_id) is not None


@pytest.mark.slow
def test_two_services_on_one_swarm_make_no_doubled_bot_and_agree(
    target: str,
    calls: Calls,
    bots: SwarmBots,
    swarm_service: BackendConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("second")
    address = f"unix://{directory}/s.sock"
    with server_process(serve_arguments(swarm_service, directory), directory / "log"):
        made = [bots.new() for _ in range(4)]

        def create(bot_id: str, which: int) -> bool:
            target_of = (address, target)[which]
            return botctl(target_of, "create", bot_id, "--", *FOREVER).returncode == 0

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda pair: create(*pair), [(bot_id, which) for bot_id in made for which in (0, 1)]))
        assert 4 == sum(won)
        assert sorted(made) == sorted(service["Spec"]["Labels"]["botmaker.bot-id"] for service in bots.services())
        calls.start(made[0])
        wait_until(
            lambda: "running" in botctl(address, "status", made[0], "-o", "json").stdout, "the other service shows it"
        )


def serve_arguments(config: BackendConfig, directory: Path) -> list[str]:
    """Options for a service in this directory."""
    own = directory / "own"
    own.mkdir()
    return [
        *("--backend", "swarm", "--docker-host", config.docker_host, "--listen", f"unix://{directory}/s.sock"),
        *("--default-image", config.default_image, "--bot-user", "0:0", "--grace-seconds", "2"),
        *("--secrets-root", str(own), "--allow-weaker", "no-new-privileges"),
    ]


def test_nine_bots_on_three_machines_survive_one_of_them_through_the_unchanged_client_and_botctl(
    bed: SwarmBed, bots: SwarmBots, swarm_service: BackendConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("nine")
    address = f"unix://{directory}/s.sock"
    with server_process(serve_arguments(swarm_service, directory), directory / "log"), connect(address) as channel:
        calls = Calls(ContainerManagerStub(channel))
        made = [bots.new() for _ in range(9)]
        for bot_id in made:
            created = botctl(address, "create", bot_id, "--", *FOREVER)
            assert 0 == created.returncode, created.stderr
        started = botctl(address, "start", *made)
        assert 0 == started.returncode, started.stderr
        assert {node.name for node in bed.nodes} == {status["node"] for status in listed(address)}
        dead = bed.workers[0]
        dead.power_cut()
        wait_until(
            lambda: all(each["state"] == "running" and each["node"] != dead.name for each in listed(address)),
            "all nine run",
        )
        assert sorted(made) == sorted(status["bot_id"] for status in listed(address))
        for bot_id in made:
            assert restarted_elsewhere(calls, bot_id, dead.name)
            # Its process answers, on the machine that its status names.
            container = container_of(bed, bots, bot_id)
            assert (container.node.name, (0, "here\n")) == (
                node_of(bed, calls, bot_id).name,
                container.run("echo", "here"),
            )
        running = [task for task in bots.tasks() if task["Status"]["State"] == "running"]
        assert 9 == len([task for task in running if task["NodeID"] != node_id(bots, dead)])


def node_id(bots: SwarmBots, node: Node) -> str:
    return next(each["ID"] for each in bots.api.nodes() if each["Description"]["Hostname"] == node.name)


def listed(address: str) -> list[dict[str, str]]:
    return json.loads(botctl(address, "list", "-o", "json").stdout)
