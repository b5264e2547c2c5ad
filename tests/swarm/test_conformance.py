"""The promises of the contract on a swarm that the contract of all backends does not show: how bots run and end.

Most tests share the bots of one fixture, since on a swarm a bot needs a second to start and two to be gone. What a
swarm keeps differently is declared in dev/swarm/differences.toml.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.bot_provisioner_pb2_grpc import BotProvisionerStub
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.swarm.backend import SwarmBackend
from container_manager.backends.swarm.service_spec import RESTART_DELAY_SECONDS
from container_manager.config import BackendConfig, ServerConfig, SwarmConfig
from container_manager_client import connect, error_info
from dev.swarm import SwarmBed
from tests.support.bots import GATEWAY_TOKEN
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.provisioning_calls import put_secrets
from tests.support.serving import running_server
from tests.support.swarm_bots import SwarmBots
from tests.support.swarm_containers import container_of
from tests.support.waiting import wait_until

OWN_GRACE_SECONDS = 2  # of the fixture swarm_service
CRASH = ("sh", "-c", "sleep 0.2; exit 3")
CLEAN = ("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
EATS_MEMORY = ("sh", "-c", "x=a; while :; do x=$x$x; done")


@dataclass(frozen=True)
class Shared:
    """Bots that several tests use."""

    made: SwarmBots
    stubborn: list[str]
    """Three that ignore SIGTERM."""
    looping: str
    """One that crashes again and again."""
    failed: dict[str, tuple[str, str]]
    """Bots that cannot start: with the program, and the reason that the start had."""
    failed_at: float
    started: Path
    """Has the id of each bot that a node's engine starts, once for each start."""


@contextmanager
def starts_written(bed: SwarmBed, to: Path) -> Iterator[None]:
    """Write down what the nodes' own engines start."""
    bot_id = '{{index .Actor.Attributes "botmaker.bot-id"}}'
    command = ("events", "--since", str(int(time.time())), "--filter", "event=start", "--format", bot_id)
    with ExitStack() as stack, to.open("ab") as output:
        for node in bed.nodes:
            process = subprocess.Popen(["docker", "--host", node.docker_url, *command], stdout=output)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.fixture(scope="module")
def shared(session_bed: SwarmBed, calls: Calls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The bots; those that cannot start come first, so that their end is seen in time on a busy machine."""
    started = tmp_path_factory.mktemp("started") / "bots"
    with starts_written(session_bed, started):
        yield from shared_bots(session_bed, calls, started)


def shared_bots(session_bed: SwarmBed, calls: Calls, started: Path) -> Iterator[Shared]:
    made = SwarmBots(session_bed.nodes[0].docker_url)

    def run(program: tuple[str, ...]) -> tuple[str, str]:
        bot_id = made.new()
        try:
            calls.run(bot_id, *program)
        except grpc.RpcError as exc:
            return bot_id, error_info(exc).reason
        return bot_id, ""

    with ThreadPoolExecutor(4) as pool:
        bad = [("no-such-program",), ("/etc/passwd",)]
        failed = {
            bot_id: (program, reason) for (program,), (bot_id, reason) in zip(bad, pool.map(run, bad), strict=True)
        }
        failed_at = time.monotonic()
        others = list(pool.map(run, [*[STUBBORN] * 3, CRASH]))
    assert [""] * 4 == [reason for _, reason in others]
    *stubborn, looping = [bot_id for bot_id, _ in others]
    yield Shared(made, stubborn, looping, failed, failed_at, started)
    made.remove_all()
    made.close()


@pytest.fixture
def stubborn(shared: Shared, session_bed: SwarmBed, calls: Calls) -> list[str]:
    """The bots that ignore SIGTERM; all run, and have their handler."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(calls.start, shared.stubborn))
    for bot_id in shared.stubborn:
        container_of(session_bed, shared.made, bot_id).wait_for_log("ready")
    return shared.stubborn


def seconds_of_stop(calls: Calls, bot_id: str, grace: float | None) -> float:
    """How long the stop takes of a bot that then has been killed."""
    begun = time.monotonic()
    calls.stop(bot_id, grace=grace)
    seconds = time.monotonic() - begun
    status = calls.status(bot_id)
    assert status is not None
    assert (pb.CONTAINER_STATE_EXITED, 137, pb.EXIT_REASON_KILLED) == (
        status.state,
        status.exit_code,
        status.exit_reason,
    )
    return seconds


def test_conformance_05_a_bot_has_its_own_grace_period_or_through_its_nodes_engine_a_shorter_or_a_longer_one(
    session_bed: SwarmBed, shared: Shared, stubborn: list[str], calls: Calls
) -> None:
    own, shorter, longer = stubborn
    with ThreadPoolExecutor(3) as pool:
        stops = [
            pool.submit(seconds_of_stop, calls, bot_id, grace)
            for bot_id, grace in ((own, None), (shorter, 0), (longer, OWN_GRACE_SECONDS + 3))
        ]
        seconds = [stop.result() for stop in stops]
    assert OWN_GRACE_SECONDS <= seconds[0]
    assert OWN_GRACE_SECONDS + 3 <= seconds[2]
    assert seconds[1] < seconds[0], "zero kills at once"
    calls.start(own)
    container_of(session_bed, shared.made, own).wait_for_log("ready")
    assert 1 <= seconds_of_stop(calls, own, 0.2), "part seconds are rounded up"


@pytest.mark.slow
def test_conformance_05_a_grace_of_90_seconds_is_not_cut_short(stubborn: list[str], calls: Calls) -> None:
    assert 90 <= seconds_of_stop(calls, stubborn[0], 90)


def test_conformance_05_another_grace_period_is_refused_with_its_field_where_the_nodes_engine_is_not_named(
    stubborn: list[str], managers_only: Calls
) -> None:
    bot_id = stubborn[0]
    before = managers_only.status(bot_id)
    for verb in (managers_only.stop, managers_only.restart, managers_only.remove):
        for grace in (0, OWN_GRACE_SECONDS + 1):
            with fails_with("UNIMPLEMENTED", "NOT_SUPPORTED_BY_BACKEND") as caught:
                verb(bot_id, grace=grace)
            assert "grace_period" == caught[0].metadata["field"]
    assert before == managers_only.status(bot_id)
    assert seconds_of_stop(managers_only, bot_id, OWN_GRACE_SECONDS) >= OWN_GRACE_SECONDS


def test_conformance_06_a_clean_exit_is_completed_and_out_of_memory_shows_as_killed(
    bed: SwarmBed, bots: SwarmBots, managers_only: Calls
) -> None:
    calls, clean, hungry = managers_only, bots.new(), bots.new()
    calls.run(hungry, *EATS_MEMORY, resources=pb.ResourceLimits(memory_bytes=16 * 1024 * 1024))
    calls.run(clean, *CLEAN)
    # The kernel drops a signal to a process that has no handler yet.
    container_of(bed, bots, clean).wait_for_log("ready")
    calls.stop(clean)
    status = calls.status(clean)
    assert status is not None
    assert (0, pb.EXIT_REASON_COMPLETED) == (status.exit_code, status.exit_reason)

    def ended() -> pb.ContainerStatus | None:
        found = calls.status(hungry)
        return found if found is not None and found.HasField("exit_code") else None

    status = wait_until(ended, "memory runs out")
    assert (pb.CONTAINER_STATE_RESTARTING, 137, pb.EXIT_REASON_KILLED) == (
        status.state,
        status.exit_code,
        status.exit_reason,
    )


def test_conformance_07_a_bot_reads_its_own_secrets_and_cannot_write_them(
    session_bed: SwarmBed, shared: Shared, stubborn: list[str]
) -> None:
    """Another bot's secrets are nowhere in its container."""
    container = container_of(session_bed, shared.made, stubborn[0])
    assert (0, "/run/secrets\n/run/secrets/GATEWAY_TOKEN\n") == container.run("find", "/run/secrets")
    for attempt in ("echo x >/run/secrets/GATEWAY_TOKEN", "rm /run/secrets/GATEWAY_TOKEN"):
        assert 0 != container.run("sh", "-c", attempt, user="0:0")[0], attempt
    assert (0, GATEWAY_TOKEN) == container.run("cat", "/run/secrets/GATEWAY_TOKEN")
    # The directory is the container's own: root, but no other user, may make new files beside the secrets.
    made = [0 == container.run("touch", "/run/secrets/new", user=user)[0] for user in ("1000:1000", "0:0")]
    assert [False, True] == made


def test_conformance_18_a_rotated_secret_reaches_the_bot_with_its_next_start(
    session_bed: SwarmBed, shared: Shared, stubborn: list[str], calls: Calls, provisioner: BotProvisionerStub
) -> None:
    bot_id, read = stubborn[1], ("cat", "/run/secrets/GATEWAY_TOKEN")
    container = container_of(session_bed, shared.made, bot_id)
    assert (0, GATEWAY_TOKEN) == container.run(*read)
    put_secrets(provisioner, bot_id, GATEWAY_TOKEN=b"rotated")
    assert (0, GATEWAY_TOKEN) == container.run(*read)
    calls.restart(bot_id, grace=0)
    assert (0, "rotated") == container_of(session_bed, shared.made, bot_id).run(*read)


def test_conformance_08_a_crashed_process_is_restarted_and_counted_and_a_stop_in_the_loop_lasts(
    shared: Shared, calls: Calls
) -> None:
    bot_id = shared.looping
    calls.start(bot_id)

    def waits() -> pb.ContainerStatus | None:
        status = calls.status(bot_id)
        found = status is not None and status.state == pb.CONTAINER_STATE_RESTARTING and status.restart_count
        return status if found else None

    status = wait_until(waits, "the wait after a second run")
    assert (3, pb.EXIT_REASON_ERROR) == (status.exit_code, status.exit_reason)
    calls.stop(bot_id)
    stopped_at = time.monotonic()
    known = {task["ID"] for task in tasks_of(shared.made, bot_id)}
    wait_until(lambda: time.monotonic() > stopped_at + RESTART_DELAY_SECONDS + 1, "the next run would have begun")
    assert {task["ID"] for task in tasks_of(shared.made, bot_id)} <= known
    stopped = calls.status(bot_id)
    assert stopped is not None
    assert (pb.CONTAINER_STATE_EXITED, 3, pb.EXIT_REASON_ERROR) == (
        stopped.state,
        stopped.exit_code,
        stopped.exit_reason,
    )


def test_conformance_08_a_bot_that_becomes_unhealthy_is_restarted(calls: Calls, bots: SwarmBots) -> None:
    check = pb.HealthCheck(command=["test", "-e", "/tmp/well"], interval={"seconds": 1}, retries=1)
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "touch /tmp/well; sleep 3; rm /tmp/well; exec sleep 1000", health_check=check)

    def health() -> int:
        status = calls.status(bot_id)
        assert status is not None
        return status.health

    wait_until(lambda: pb.HEALTH_STATUS_HEALTHY == health(), "it is healthy")
    wait_until(lambda: count(calls, bot_id) > 0, "it is restarted")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["the manager's engine restarts", "its own node loses power"])
def test_conformance_08_a_stop_outlives_engines_also_amid_a_crash_loop(
    bed: SwarmBed, bots: SwarmBots, calls: Calls, which: str
) -> None:
    bots.drain(bed.nodes[0].name)
    stopped, looping, loop_stopped, running = (bots.new() for _ in range(4))
    for bot_id, command in ((stopped, FOREVER), (looping, CRASH), (loop_stopped, CRASH), (running, FOREVER)):
        calls.run(bot_id, *command)
    nodes = {status.bot_id: status.node for status in calls.listed(bots.ids)}
    restarting = partial(in_state, calls, loop_stopped, pb.CONTAINER_STATE_RESTARTING)
    wait_until(restarting, "amid the crash loop")
    calls.stop(loop_stopped)
    calls.stop(stopped)
    if which == "the manager's engine restarts":
        bed.nodes[0].kill_engine()
        bed.nodes[0].start_engine()
    else:
        for name in {nodes[stopped], nodes[loop_stopped]}:
            next(node for node in bed.nodes if node.name == name).power_cut()
    bed.restore()
    before = count(calls, looping)
    wait_until(lambda: in_state(calls, running, pb.CONTAINER_STATE_RUNNING), "what ran runs again", 120)
    wait_until(lambda: count(calls, looping) > before, "what looped loops", 120)
    assert in_state(calls, stopped, pb.CONTAINER_STATE_EXITED)
    assert in_state(calls, loop_stopped, pb.CONTAINER_STATE_EXITED)


def test_conformance_09_a_bad_command_has_its_reason_is_started_once_and_shows_in_the_status(
    shared: Shared, calls: Calls
) -> None:
    # Without the service, the swarm would have tried again by now.
    wait_until(lambda: time.monotonic() > shared.failed_at + RESTART_DELAY_SECONDS + 1, "the restart delay is over")
    reasons = dict(shared.failed.values())
    assert {"no-such-program": "COMMAND_NOT_FOUND", "/etc/passwd": "COMMAND_NOT_EXECUTABLE"} == reasons
    for bot_id, (program, _) in shared.failed.items():
        status = calls.status(bot_id)
        assert status is not None
        assert (pb.CONTAINER_STATE_EXITED, pb.EXIT_REASON_START_FAILED) == (status.state, status.exit_reason)
        assert program in status.error
        assert not status.HasField("exit_code")
        assert [] == [task for task in tasks_of(shared.made, bot_id) if task["DesiredState"] in ("ready", "running")]
    runs = {service["Spec"]["Labels"]["botmaker.bot-id"]: service for service in shared.made.services()}
    assert [0, 0] == [runs[bot_id]["Spec"]["Mode"]["Replicated"].get("Replicas", 0) for bot_id in shared.failed]
    started = shared.started.read_text().split()
    assert [1, 1] == [started.count(bot_id) for bot_id in shared.failed]


def test_conformance_13_different_bots_stop_side_by_side_while_statuses_answer_and_one_bots_calls_in_their_order(
    session_bed: SwarmBed, shared: Shared, stubborn: list[str], calls: Calls
) -> None:
    begun = time.monotonic()
    containers = [container_of(session_bed, shared.made, bot_id) for bot_id in stubborn]
    with ThreadPoolExecutor(4) as pool:
        stops = [pool.submit(calls.stop, bot_id, 5) for bot_id in stubborn]
        containers[0].wait_for_log("asked")
        start = pool.submit(calls.start, stubborn[0])
        answered = 0
        while not any(stop.done() for stop in stops):
            assert calls.status(stubborn[answered % 3]) is not None
            answered += 1
        for each in (*stops, start):
            each.result()
    # One after another, they would take 15 s for the stops alone.
    assert time.monotonic() - begun < 15
    assert answered > 20
    assert in_state(calls, stubborn[0], pb.CONTAINER_STATE_RUNNING)
    assert in_state(calls, stubborn[1], pb.CONTAINER_STATE_EXITED)


def test_conformance_14_a_client_that_cancels_in_mid_stop_still_leaves_the_bot_stopped(
    session_bed: SwarmBed, shared: Shared, stubborn: list[str], calls: Calls
) -> None:
    bot_id = stubborn[0]
    request = pb.StopContainerRequest(bot_id=bot_id, grace_period=Duration(seconds=OWN_GRACE_SECONDS))
    container = container_of(session_bed, shared.made, bot_id)
    call = calls.stub.StopContainer.future(request)
    container.wait_for_log("asked")
    call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    wait_until(lambda: in_state(calls, bot_id, pb.CONTAINER_STATE_EXITED), "it has ended")
    status = calls.status(bot_id)
    assert status is not None
    assert 137 == status.exit_code


def test_conformance_15_a_restarted_service_lists_the_same(
    shared: Shared, swarm_service: BackendConfig, swarm_config: SwarmConfig, session_dir: Path, calls: Calls
) -> None:
    """Bots that run, that were stopped, and that could not start."""
    calls.start(shared.stubborn[1])
    calls.stop(shared.stubborn[2])
    ids = [*shared.stubborn[1:], *shared.failed]
    config = ServerConfig(service=swarm_service, swarm=swarm_config, listen=(f"unix://{session_dir}/turn/s.sock",))
    with (
        running_server(config, backend=partial(SwarmBackend, swarm_service, swarm_config)) as (address,),
        connect(address) as channel,
    ):
        after = Calls(ContainerManagerStub(channel)).listed(ids)
    assert 4 == len(after)
    wait_until(lambda: calls.listed(ids) == after, "both list the same")


def tasks_of(made: SwarmBots, bot_id: str) -> list[dict[str, object]]:
    return [each for each in made.tasks() if each["Spec"]["ContainerSpec"]["Labels"]["botmaker.bot-id"] == bot_id]


def in_state(calls: Calls, bot_id: str, state: int) -> bool:
    status = calls.status(bot_id)
    return status is not None and status.state == state


def count(calls: Calls, bot_id: str) -> int:
    status = calls.status(bot_id)
    assert status is not None
    return status.restart_count
