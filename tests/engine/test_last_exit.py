"""Conformance 6 and 8: how the run before the present one ended, on a real engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.config import BackendConfig, ServerConfig
from container_manager.model import ContainerConfig, ExitReason
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls
from tests.support.serving import looped_server
from tests.support.start_failure_contract import BuildImage
from tests.support.waiting import wait_until

Status = pb.ContainerStatus
# Most of a run passes while it looks healthy.
EATER = ("sh", "-c", "sleep 0.5; x=a; while :; do x=$x$x; done")
MEMORY = pb.ResourceLimits(memory_bytes=16 * 1024 * 1024)


def seen(calls: Calls, bot_id: str, what: str, is_so: Callable[[Status], bool]) -> Status:
    """The first status of which this is so."""

    def look() -> Status | None:
        status = calls.status(bot_id)
        return status if status is not None and is_so(status) else None

    return wait_until(look, what)


def test_a_bot_that_is_killed_for_memory_again_and_again_shows_it_while_it_runs(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, *EATER, resources=MEMORY)
    status = seen(
        calls,
        bot_id,
        "the second run",
        lambda it: it.state == pb.CONTAINER_STATE_RUNNING and it.restart_count > 0 and it.HasField("last_exit"),
    )
    assert (status.last_exit.exit_code, status.last_exit.exit_reason) == (137, pb.EXIT_REASON_OOM_KILLED)
    assert status.last_exit.finish_time.ToNanoseconds() < status.start_time.ToNanoseconds()
    assert not status.HasField("exit_code")
    # The bot may end between two reads.
    seen(calls, bot_id, "the list's", lambda it: [it.last_exit] == [each.last_exit for each in calls.listed([bot_id])])


def test_a_restart_by_the_api_hides_no_end(calls: Calls, bots: Bots) -> None:
    """The engine starts the next run so soon that no inspection sees the end: it is known from the event."""
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN)
    bots.wait_for_log(bot_id, b"ready")
    calls.restart(bot_id, grace=0)
    status = seen(calls, bot_id, "the last exit", lambda it: it.HasField("last_exit"))
    assert status.state == pb.CONTAINER_STATE_RUNNING
    assert (status.last_exit.exit_code, status.last_exit.exit_reason) == (137, pb.EXIT_REASON_KILLED)


def test_each_run_shows_the_end_of_the_one_before_it_and_not_of_an_older_one(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    # The exit codes are 1, 2, 3, … in this order.
    script = "n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; sleep 0.3; exit $n"
    calls.run(bot_id, "sh", "-c", script)
    for count in (1, 2, 3):
        status = seen(
            calls,
            bot_id,
            f"run {count + 1}",
            lambda it, count=count: (
                it.state == pb.CONTAINER_STATE_RUNNING and it.restart_count >= count and it.HasField("last_exit")
            ),
        )
        assert (status.restart_count, status.last_exit.exit_reason) == (
            status.last_exit.exit_code,
            pb.EXIT_REASON_ERROR,
        )


def test_without_events_the_last_exit_is_known_from_what_was_read_or_absent(
    docker_service: DockerService, bots: Bots
) -> None:
    """The lifecycle without gRPC follows no events."""
    read, unread = bots.new(), bots.new()
    for bot_id in (read, unread):
        docker_service.create_container(bot_id, ContainerConfig(command=FOREVER))
        docker_service.start_container(bot_id)
    docker_service.stop_container(read, 0)
    stopped = docker_service.get_container_status(read)
    docker_service.start_container(read)
    docker_service.restart_container(unread, 0)
    shown, hidden = (docker_service.get_container_status(bot_id) for bot_id in (read, unread))
    assert stopped is not None
    assert shown is not None
    assert shown.last_exit is not None
    assert (stopped.exit_code, ExitReason.KILLED, stopped.finish_time_ns) == (
        shown.last_exit.exit_code,
        shown.last_exit.exit_reason,
        shown.last_exit.finish_time_ns,
    )
    assert hidden is not None
    assert hidden.last_exit is None


def test_reads_that_go_to_the_engine_tell_the_same_last_exit_as_the_view(
    bots: Bots, service_config: BackendConfig, session_dir: Path
) -> None:
    config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/last-exit/s.sock",))
    with looped_server(config) as looped, connect(looped.server.addresses[0]) as channel:
        calls = Calls(ContainerManagerStub(channel))
        bot_id = bots.new()
        calls.run(bot_id, *STUBBORN)
        bots.wait_for_log(bot_id, b"ready")
        calls.restart(bot_id, grace=0)
        status = seen(calls, bot_id, "the last exit", lambda it: it.HasField("last_exit"))

        async def lose() -> None:
            looped.server.keeper.view.lose()

        looped.run(lose())
        assert (status, [status]) == (calls.status(bot_id), calls.listed([bot_id]))


def test_a_bot_that_is_stopped_on_purpose_is_not_unhealthy(calls: Calls, bots: Bots, build_image: BuildImage) -> None:
    image = build_image("HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD false")
    bot_id = bots.new()
    calls.run(bot_id, *FOREVER, image=image)
    seen(calls, bot_id, "unhealthy", lambda it: it.health == pb.HEALTH_STATUS_UNHEALTHY)
    calls.stop(bot_id, grace=0)
    status = calls.status(bot_id)
    assert status is not None
    assert (status.state, status.health) == (pb.CONTAINER_STATE_EXITED, pb.HEALTH_STATUS_UNSPECIFIED)


def test_a_run_that_goes_on_after_a_childs_death_for_memory_is_not_oom_killed(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    eat = "sh -c 'x=a; while :; do x=$x$x; done'"
    script = f"{eat}; echo survived; trap 'exit 3' TERM; sleep 1000 & wait"
    calls.run(bot_id, "sh", "-c", script, resources=MEMORY)
    bots.wait_for_log(bot_id, b"survived")
    calls.stop(bot_id, grace=10)
    status = calls.status(bot_id)
    assert status is not None
    assert bots.inspect(bot_id)["State"]["OOMKilled"] is True
    assert (status.exit_code, status.exit_reason) == (3, pb.EXIT_REASON_ERROR)


SURVIVOR = "sh -c 'x=a; while :; do x=$x$x; done'; echo survived; sleep 1000 & trap '' TERM; while :; do wait; done"


@pytest.mark.parametrize("way", ["stop", "kill from outside", "late kill", "restart"])
def test_a_run_that_was_killed_after_a_childs_death_for_memory_is_killed(calls: Calls, bots: Bots, way: str) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", SURVIVOR, resources=MEMORY)
    bots.wait_for_log(bot_id, b"survived")
    if way == "kill from outside":
        bots.engine.api.kill(f"botmaker-{bot_id}")
        seen(calls, bot_id, "down", lambda it: it.state != pb.CONTAINER_STATE_RUNNING)
    elif way == "restart":
        calls.restart(bot_id, grace=0)
    else:
        calls.stop(bot_id, grace=0 if way == "stop" else 1)
    status = seen(calls, bot_id, "the end", lambda it: way != "restart" or it.HasField("last_exit"))
    # Newer engines drop the mark at the next start.
    assert way == "restart" or bots.inspect(bot_id)["State"]["OOMKilled"] is True
    end = status.last_exit if way == "restart" else status
    assert (end.exit_code, end.exit_reason) == (137, pb.EXIT_REASON_KILLED)


def test_a_run_that_ends_by_a_kill_long_after_a_childs_death_for_memory_is_not_oom_killed(
    calls: Calls, bots: Bots
) -> None:
    """A kill from inside, of which the engine tells nothing."""
    bot_id = bots.new()
    script = "sh -c 'x=a; while :; do x=$x$x; done'; echo $?; sleep 31; kill -9 $$"
    calls.run(bot_id, "sh", "-c", script, resources=MEMORY)
    bots.wait_for_log(bot_id, b"137")
    ended = seen(calls, bot_id, "the end", lambda it: it.state == pb.CONTAINER_STATE_RESTARTING)
    running = seen(calls, bot_id, "the next run", lambda it: it.HasField("last_exit"))
    assert [(137, pb.EXIT_REASON_KILLED)] * 2 == [(it.exit_code, it.exit_reason) for it in (ended, running.last_exit)]
