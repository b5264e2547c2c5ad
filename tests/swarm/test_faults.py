"""Machines, links, engines and the service itself fail: no bot is lost, doubled or left behind.

The times are printed in a table. What is asserted leaves room for a busy machine.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_maintainer_pb2 as maintainer_pb
from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1 import container_observer_pb2 as observer_pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_maintainer_pb2_grpc import ContainerMaintainerStub
from botmaker.container.v1.container_observer_pb2_grpc import ContainerObserverStub
from container_manager_client import connect, error_info
from dev.images import TEST_IMAGE, ensure_test_image
from dev.swarm import Node, SwarmBed
from tests.support.calls import FOREVER, STUBBORN, Calls
from tests.support.fault_table import FaultRow
from tests.support.faulty_swarm import FaultySwarm, faulty_swarm, running
from tests.support.swarm_bots import SwarmBots
from tests.support.waiting import wait_until
from tests.swarm.conftest import SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Report = Callable[[FaultRow], None]
SEED = "20261129 swarm faults"


@pytest.fixture
def world(bed: SwarmBed, bots: SwarmBots, session_dir: Path, swarm_image: str) -> Iterator[FaultySwarm]:
    """The service beside the only manager, which has no bots."""
    bots.drain(bed.nodes[0].name)
    directory = Path(tempfile.mkdtemp(dir=session_dir))
    with faulty_swarm(bed, bots, directory, swarm_image, bed.nodes[0]) as world:
        yield world
        bed.restore()


@pytest.fixture
def managed(tmp_path: Path, session_dir: Path, engine_tree: Path | None) -> Iterator[FaultySwarm]:
    """Three managers without bots and two workers; the service is beside the second manager."""
    with SwarmBed(tmp_path / "bed", nodes=5, managers=3, tree=engine_tree, settings=SETTINGS) as bed:
        ensure_test_image(bed.nodes[0].docker_url)
        image = bed.load_image(TEST_IMAGE)
        bots = SwarmBots(bed.nodes[1].docker_url)
        for node in bed.managers:
            bots.drain(node.name)
        directory = Path(tempfile.mkdtemp(dir=session_dir))
        with faulty_swarm(bed, bots, directory, image, bed.nodes[1]) as world:
            yield world
            bed.restore()
        bots.close()


def outcome(call: Callable[[], object]) -> str:
    """The code and the reason that a call ends with."""
    try:
        call()
    except grpc.RpcError as exc:
        info = error_info(exc)
        return f"{info.code.name} {info.reason}".strip()
    return "OK"


def test_all_nine_bots_are_back_after_a_worker_has_lost_its_power(world: FaultySwarm, report: Report) -> None:
    with world.calls() as calls:
        made = world.nine(calls)
        dead = world.bed.workers[0]
        began = time.monotonic()
        dead.power_cut()
        seconds = world.seconds_until_all_run(calls, made, dead.name, began)
        dead.boot()
        world.bed.wait_until_ready()
        lost = world.settled({bot_id: calls.status(bot_id).container_id for bot_id in made})
    report(FaultRow("worker loses its power", 1, 0, Counter(), lost, seconds, limit_seconds=20))


def test_a_worker_that_was_cut_off_leaves_no_second_copy_when_it_is_back(world: FaultySwarm, report: Report) -> None:
    with world.calls() as calls:
        made = world.nine(calls)
        cut = world.bed.workers[0]
        began = time.monotonic()
        cut.cut_link()
        back = world.seconds_until_all_run(calls, made, cut.name, began)
        doubled = world.copies().total() - len(made)
        began = time.monotonic()
        cut.heal_link()
        wait_until(lambda: world.copies() == Counter(made), "one copy of each")
        seconds = time.monotonic() - began
        lost = world.settled({bot_id: calls.status(bot_id).container_id for bot_id in made})
    report(FaultRow("worker cut off, bots back elsewhere", 1, 0, Counter({"second copies": doubled}), lost, back))
    report(FaultRow("the link is back, one copy of each", 1, 0, Counter(), lost, seconds, limit_seconds=10))


@pytest.mark.parametrize("has_bots", [False, True], ids=["drained", "with bots"])
def test_a_leader_that_dies_costs_callers_at_most_a_retry(managed: FaultySwarm, report: Report, has_bots: bool) -> None:
    bed = managed.bed
    if has_bots:
        managed.bots.activate_nodes()
    with managed.calls() as calls:
        made = managed.nine(calls)
        before = managed.copies()
        leader = bed.nodes[0]
        changed = [bot_id for bot_id in made if calls.status(bot_id).node != leader.name][:3]
        outcomes: Counter[str] = Counter()
        began = time.monotonic()
        leader.power_cut()
        for call in (partial(verb, bot_id, timeout=60) for bot_id in changed for verb in (calls.stop, calls.start)):
            told = outcome(call)
            outcomes[told] += 1
            if told != "OK":
                assert "OK" == outcome(call)
        seconds = managed.seconds_until_all_run(calls, made, leader.name, began)
        bed.restore()
        wait_until(lambda: before == managed.copies(), "one copy of each runs")
        lost = managed.settled({bot_id: calls.status(bot_id).container_id for bot_id in made})
    name = f"leader {'with bots ' * has_bots}loses its power, 6 changes"
    report(FaultRow(name, 1, 6, outcomes, lost, seconds, limit_seconds=60))


def test_removes_of_many_bots_at_once_crash_no_manager(managed: FaultySwarm) -> None:
    engines = {node.name: node.engine_pid for node in managed.bed.nodes}
    with managed.calls() as calls:
        for _ in range(5):
            made = managed.nine(calls)
            with ThreadPoolExecutor(len(made)) as pool:
                list(pool.map(partial(calls.remove, grace=0), made))
            assert not calls.list()
            assert engines == {node.name: node.engine_pid for node in managed.bed.nodes}


def test_two_services_beside_two_managers_make_no_doubled_bot_and_agree(
    managed: FaultySwarm, session_dir: Path
) -> None:
    directory, beside = Path(tempfile.mkdtemp(dir=session_dir)), managed.bed.nodes[2]
    with (
        faulty_swarm(managed.bed, managed.bots, directory, managed.image, beside) as second,
        managed.calls() as one,
        second.calls() as other,
    ):
        made = [managed.bots.new() for _ in range(4)]
        tried = [(calls.create, bot_id) for bot_id in made for calls in (one, other)]
        with ThreadPoolExecutor(len(tried)) as pool:
            told = Counter(pool.map(lambda each: outcome(lambda: each[0](each[1], *STUBBORN)), tried))
        assert {"OK": 4, "ALREADY_EXISTS CONTAINER_ALREADY_EXISTS": 4} == told
        for verb in ("start", "stop"):
            # Each bot by both at once.
            tried = [(getattr(calls, verb), bot_id) for bot_id in made for calls in (one, other)]
            with ThreadPoolExecutor(len(tried)) as pool:
                assert {"OK": 8} == Counter(pool.map(lambda each: outcome(lambda: each[0](each[1])), tried))
            assert (Counter(made) if verb == "start" else Counter()) == managed.copies()
            wait_until(lambda: shown(one) == shown(other), "both show the same")
        assert {137} == {each.exit_code for each in one.list()}
        lost = managed.settled({bot_id: one.status(bot_id).container_id for bot_id in made})
        assert 0 == lost
        wait_until(lambda: [] == other.list(), "the other service shows that they are gone")


def shown(calls: Calls) -> list[bytes]:
    return sorted(each.SerializeToString(deterministic=True) for each in calls.list())


def test_calls_end_in_time_without_a_quorum_and_bots_stay_up(managed: FaultySwarm, report: Report) -> None:
    bed = managed.bed
    with managed.calls() as calls, connect(managed.target) as channel:
        made = managed.nine(calls)
        for node in (bed.nodes[0], bed.nodes[2]):
            node.power_cut()
        outcomes: Counter[str] = Counter()
        bot_id = made[0]
        reads = (lambda: calls.status(bot_id), calls.list)
        changes = [partial(call, bot_id, timeout=5) for call in (calls.start, calls.restart, calls.stop, calls.remove)]
        creates = [lambda: calls.create(managed.bots.bare(), *FOREVER, timeout=5)]
        for call in (*changes, *creates, *reads, *others(channel, bot_id)):
            began = time.monotonic()
            told = outcome(call)
            assert time.monotonic() - began < 30
            outcomes[told] += 1
        assert set(outcomes) <= {"OK", "UNAVAILABLE ENGINE_UNAVAILABLE", "DEADLINE_EXCEEDED ENGINE_TIMEOUT"}, outcomes
        assert managed.copies() == Counter(made)
        began = time.monotonic()
        bed.restore()
        wait_until(lambda: set(made) <= running(calls) | {bot_id}, "the service tells what is so", 90)
        seconds = time.monotonic() - began
        lost = managed.settled({each.bot_id: each.container_id for each in calls.list()})
    report(FaultRow("two of three managers lose their power", 1, outcomes.total(), outcomes, lost, seconds))


def others(channel: grpc.Channel, bot_id: str) -> Iterator[Callable[[], object]]:
    """Calls of the other services, each with a deadline of 5 s."""
    provisioner, observer = BotProvisionerStub(channel), ContainerObserverStub(channel)
    maintainer = ContainerMaintainerStub(channel)
    for request, call in (
        (provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets={"TOKEN": b"x"}), provisioner.PutSecrets),
        (provisioner_pb.ListSecretsRequest(bot_id=bot_id), provisioner.ListSecrets),
        (provisioner_pb.ReloadSecretsRequest(bot_id=bot_id), provisioner.ReloadSecrets),
        (observer_pb.GetContainerConfigRequest(bot_id=bot_id), observer.GetContainerConfig),
    ):
        yield partial(call, request, timeout=5)
    logs = observer_pb.StreamLogsRequest(bot_id=bot_id)
    yield lambda: list(observer.StreamLogs(logs, timeout=5))
    upgrade = maintainer_pb.UpgradeContainerRequest(bot_id=bot_id, image="any:1", request_id="1", skip_backup=True)
    yield lambda: list(maintainer.UpgradeContainer(upgrade, timeout=5))


def test_twenty_random_faults_under_a_mix_of_calls_lose_double_and_leave_nothing(
    world: FaultySwarm, report: Report
) -> None:
    draw = random.Random(SEED)
    bed, (manager, *workers) = world.bed, world.bed.nodes
    bot_ids = [world.bots.new() for _ in range(9)]
    done: Counter[str] = Counter()

    def service_killed(_: Node) -> None:
        world.service.terminate(signal.SIGKILL)
        world.service.close()

    faults = {
        "a worker loses its power": (workers, Node.power_cut),
        "a worker is cut off": (workers, Node.cut_link),
        "a worker's engine is killed": (workers, Node.kill_engine),
        "the manager loses its power": ([manager], Node.power_cut),
        "the manager is cut off": ([manager], Node.cut_link),
        "the manager's engine is killed": ([manager], Node.kill_engine),
        "the service is killed": ([manager], service_killed),
    }
    print(f"seed {SEED!r}", flush=True)  # noqa: T201 - to repeat it
    names = [*faults, *faults, *draw.choices(list(faults), k=20 - 2 * len(faults))]
    draw.shuffle(names)
    with world.mix(SEED, bot_ids) as mix:
        for number, name in enumerate(names):
            nodes, fail = faults[name]
            node, lasts = draw.choice(nodes), draw.choice((0.5, 3, 15))
            print(f"{number}: {name} ({node.name}) for {lasts} s", flush=True)  # noqa: T201 - as above
            if fail is service_killed:
                world.recorder.broken_connections_allowed.set()
            fail(node)
            time.sleep(lasts)
            node.restore()
            if fail is service_killed:
                world.serve()
                enough = len(world.recorder.outcomes) + 6
                wait_until(lambda enough=enough: len(world.recorder.outcomes) >= enough, "further calls")
                world.recorder.broken_connections_allowed.clear()
            bed.wait_until_ready()
            time.sleep(draw.random() * 3)
            done[name] += 1
    began = time.monotonic()
    codes = world.recorder.codes()
    lost = world.settled(mix.entries, wrong=mix.wrong)
    report(FaultRow("random faults", done.total(), codes.total(), codes, lost, time.monotonic() - began))


def test_a_service_that_is_killed_at_any_moment_of_a_change_loses_and_doubles_nothing(
    world: FaultySwarm, report: Report
) -> None:
    draw = random.Random(SEED)
    bot_ids = [world.bots.new() for _ in range(9)]
    times = 10
    with world.mix(SEED, bot_ids, callers=6) as mix:
        for _ in range(times):
            time.sleep(1 + draw.random() * 2)
            world.recorder.broken_connections_allowed.set()
            world.service.terminate(signal.SIGKILL)
            world.service.close()
            world.serve()
            enough = len(world.recorder.outcomes) + 12
            wait_until(lambda enough=enough: len(world.recorder.outcomes) >= enough, "further calls")
            world.recorder.broken_connections_allowed.clear()
    codes = world.recorder.codes()
    lost = world.settled(mix.entries, wrong=mix.wrong)
    report(FaultRow("service killed, started again", times, codes.total(), codes, lost))


def killed_during(world: FaultySwarm, call: Callable[[Calls], object], when: Callable[[], bool]) -> None:
    """Kill the service during a call, as soon as something is so, and start it again."""
    with world.calls() as calls, ThreadPoolExecutor(1) as pool:
        made = pool.submit(outcome, lambda: call(calls))
        wait_until(when, "the change is under way")
        world.service.terminate(signal.SIGKILL)
        world.service.close()
        made.result()
    world.serve()


def replicas(bots: SwarmBots) -> list[int]:
    return [each["Spec"]["Mode"]["Replicated"]["Replicas"] for each in bots.services()]


def test_a_stop_whose_service_is_killed_before_its_end_leaves_a_bot_that_has_ended(world: FaultySwarm) -> None:
    bot_id = world.bots.new()
    with world.calls() as calls:
        calls.run(bot_id, *STUBBORN)
        calls.stop(bot_id)
        # The end of that run is not the end of this one.
        calls.start(bot_id)
    killed_during(world, lambda calls: calls.stop(bot_id, timeout=10), lambda: replicas(world.bots) == [0])
    with world.calls() as calls:
        after = wait_until(lambda: ended(calls, bot_id), "it has ended")
        assert not after.HasField("exit_code")
        # Nothing of the stop is left, should its node fail later.
        wait_until(lambda: "botmaker.swarm.left-on" not in world.bots.services()[0]["Spec"]["Labels"], "it is settled")
        assert 0 == world.settled({bot_id: after.container_id})


def ended(calls: Calls, bot_id: str) -> pb.ContainerStatus | None:
    status = calls.status(bot_id)
    return status if status is not None and status.state == pb.CONTAINER_STATE_EXITED else None


def test_a_start_that_fails_after_its_service_was_killed_is_withdrawn(world: FaultySwarm) -> None:
    bot_id = world.bots.new()
    with world.calls() as calls:
        calls.create(bot_id, "no-such-command")
    killed_during(world, lambda calls: calls.start(bot_id, timeout=10), lambda: replicas(world.bots) == [1])
    with world.calls() as calls:
        after = wait_until(lambda: ended(calls, bot_id), "the start is withdrawn")
        assert (pb.EXIT_REASON_START_FAILED, [0]) == (after.exit_reason, replicas(world.bots))
        assert "no-such-command" in after.error
        assert 0 == world.settled({bot_id: after.container_id})


def test_a_bot_that_crashes_again_and_again_is_counted_beyond_what_the_swarm_remembers(world: FaultySwarm) -> None:
    bot_id = world.bots.new()
    with world.calls() as calls:
        calls.run(bot_id, "sh", "-c", "sleep 0.2; exit 3")
        counts = []

        def counted() -> bool:
            counts.append(calls.status(bot_id).restart_count)
            return counts[-1] >= 8

        wait_until(counted, "eight restarts", 180)
        assert counts == sorted(counts)
        assert len(world.bots.tasks()) <= 6
        calls.stop(bot_id)
        assert calls.status(bot_id).restart_count >= 8
        assert 0 == world.settled({bot_id: calls.status(bot_id).container_id})
