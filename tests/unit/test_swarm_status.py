"""The status of a bot on a swarm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from container_manager.backends.swarm import records
from container_manager.backends.swarm.records import Counted, Run
from container_manager.backends.swarm.service_spec import Placement
from container_manager.backends.swarm.status import removed_status, status_of
from container_manager.backends.swarm.tasks import run_of
from container_manager.engine.timestamps import time_ns
from container_manager.model import (
    ContainerConfig,
    ContainerState,
    ExitReason,
    HealthCheck,
    HealthStatus,
    LastExit,
    PortBinding,
)
from tests.unit.swarm_documents import BOT, DIGEST, IMAGE, NODES, ended, service, spec, task

STARTED = service(records.started(spec(), 0))


def test_a_bot_that_was_created_is_not_on_a_node() -> None:
    status = status_of(service(spec(ContainerConfig(hostname="ada", labels={"tier": "free"}))), [], NODES)
    assert (BOT, "service1", f"botmaker-{BOT}", ContainerState.CREATED) == (
        status.bot_id,
        status.container_id,
        status.name,
        status.state,
    )
    assert (IMAGE, DIGEST) == (status.image, status.image_id)
    assert ("ada", (("tier", "free"),)) == (status.hostname, status.labels)
    assert (None, None, None, "", False) == (
        status.start_time_ns,
        status.exit_code,
        status.exit_reason,
        status.node,
        status.node_unreachable,
    )
    assert time_ns("2026-01-01T00:00:00.5Z") == status.create_time_ns
    assert ["", "one"] == [status_of(service(spec(request_id=each)), [], NODES).request_id for each in ("", "one")]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["new"], ContainerState.CREATED),
        (["preparing"], ContainerState.CREATED),
        (["starting"], ContainerState.CREATED),
        (["running"], ContainerState.RUNNING),
        (["failed"], ContainerState.RESTARTING),
        (["failed", "ready"], ContainerState.RESTARTING),
        (["complete", "starting"], ContainerState.RESTARTING),
        (["failed", "running"], ContainerState.RUNNING),
        (["shutdown", "pending"], ContainerState.RESTARTING),
        # Nothing is heard of its machine, and no other may take it, or one is about to.
        (["running", "pending"], ContainerState.RESTARTING),
        (["running", "preparing"], ContainerState.RESTARTING),
        (["starting", "new"], ContainerState.RESTARTING),
        (["orphaned"], ContainerState.RESTARTING),
    ],
)
def test_the_newest_task_shows_the_state(states: list[str], expected: ContainerState) -> None:
    tasks = [task(state, second) for second, state in enumerate(states, 1)]
    assert expected == status_of(STARTED, list(reversed(tasks)), NODES).state


def test_a_running_bot_shows_its_start_its_node_and_its_ports() -> None:
    port = {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 32768, "PublishMode": "host"}
    running = task("running", status={"PortStatus": {"Ports": [port, port]}})
    status = status_of(STARTED, [running], NODES)
    assert time_ns("2026-01-01T00:01:01Z") == status.start_time_ns
    assert ("machine-1", False) == (status.node, status.node_unreachable)
    assert (PortBinding(80, 32768, "0.0.0.0"),) == status.ports
    assert (0, None, None) == (status.restart_count, status.health, status.last_exit)


def test_a_bot_on_a_node_that_is_down_stays_as_it_was_seen_and_says_so() -> None:
    status = status_of(STARTED, [task("running", NodeID="node2")], NODES)
    assert (ContainerState.RUNNING, "machine-2", True) == (status.state, status.node, status.node_unreachable)


def test_the_copy_of_a_stopped_run_on_a_lost_node_is_no_earlier_run_of_a_start() -> None:
    started = service(records.started(spec(), until_ns=time_ns("2026-01-01T00:00:01Z") or 0))
    tasks = [task("running", 1, NodeID="node2"), task("preparing", 2)]
    assert ContainerState.CREATED is status_of(started, tasks, NODES).state
    assert (
        ContainerState.RESTARTING is status_of(started, [*tasks, task("starting", 3), task("pending", 4)], NODES).state
    )


def test_a_bot_that_waits_for_a_node_shows_the_one_that_is_down() -> None:
    before = task("running", NodeID="node2")
    status = status_of(STARTED, [before, task("pending", 2, NodeID="")], NODES)
    assert (ContainerState.RESTARTING, "machine-2", True) == (status.state, status.node, status.node_unreachable)
    status = status_of(STARTED, [before, task("preparing", 2)], NODES)
    assert (ContainerState.RESTARTING, "machine-1", False) == (status.state, status.node, status.node_unreachable)


def test_a_pinned_bot_shows_its_node_while_it_is_stopped() -> None:
    placed = spec(placement=Placement(constraints=["node.id==node2"]))
    status = status_of(service(placed), [], NODES)
    assert ("machine-2", True) == (status.node, status.node_unreachable)


def test_a_health_check_that_has_not_passed_yet_shows_as_starting() -> None:
    checked = service(records.started(spec(ContainerConfig(health_check=HealthCheck(("true",)))), 0))
    assert [HealthStatus.STARTING, HealthStatus.HEALTHY] == [
        status_of(checked, [task(state)], NODES).health for state in ("starting", "running")
    ]


def test_a_bot_that_is_being_stopped_runs_until_it_has_ended() -> None:
    stopping = service(records.stopped(STARTED["Spec"]))
    assert ContainerState.RUNNING is status_of(stopping, [task("running")], NODES).state
    after = status_of(stopping, [ended(143)], NODES)
    assert (ContainerState.EXITED, 143, ExitReason.KILLED) == (after.state, after.exit_code, after.exit_reason)


def test_a_stopped_bot_that_was_left_on_a_node_runs_until_its_end_is_certain() -> None:
    left = service(records.stopped(STARTED["Spec"], left_on=["node2"]))
    status = status_of(left, [], NODES)
    assert (ContainerState.RUNNING, "machine-2", True) == (status.state, status.node, status.node_unreachable)
    back = {**NODES, "node2": {**NODES["node2"], "Status": {"State": "ready"}}}
    status = status_of(left, [], back)
    assert (ContainerState.RUNNING, "machine-2", False) == (status.state, status.node, status.node_unreachable)
    # The operator has removed the node from the swarm.
    assert ContainerState.EXITED is status_of(left, [], {}).state
    ended_since = service(records.stopped(left["Spec"], Run(exit_code=0), ()))
    assert ContainerState.EXITED is status_of(ended_since, [], NODES).state


def test_a_stopped_bot_shows_the_end_that_was_written_down() -> None:
    run = Run(exit_code=3, start_time_ns=5, finish_time_ns=9, restart_count=2)
    status = status_of(service(records.stopped(STARTED["Spec"], run)), [], NODES)
    assert (ContainerState.EXITED, 3, ExitReason.ERROR, 5, 9, 2) == (
        status.state,
        status.exit_code,
        status.exit_reason,
        status.start_time_ns,
        status.finish_time_ns,
        status.restart_count,
    )


def test_a_failed_start_shows_the_engines_own_text_and_no_exit_code() -> None:
    rejected = task("rejected", status={"Err": "No such image: x"})
    status = status_of(service(records.stopped(STARTED["Spec"], run_of(rejected))), [], NODES)
    assert ("No such image: x", ExitReason.START_FAILED, None, None) == (
        status.error,
        status.exit_reason,
        status.exit_code,
        status.start_time_ns,
    )


def test_a_bot_that_waits_for_a_node_says_why() -> None:
    waiting = task("pending", NodeID="", status={"Err": "no suitable node (1 node not available for new tasks)"})
    status = status_of(STARTED, [waiting], NODES)
    assert "no suitable node (1 node not available for new tasks)" == status.error


def test_restarts_are_counted_beyond_what_the_swarm_keeps() -> None:
    tasks = [ended(1, 5), ended(1, 6), task("running", 7)]
    assert 2 == status_of(STARTED, tasks, NODES).restart_count
    until = time_ns("2026-01-01T00:00:05Z") or 0
    counted = service(records.counted(STARTED["Spec"], Counted(runs=9, until_ns=until)))
    assert 10 == status_of(counted, tasks, NODES).restart_count
    # The same figure when the swarm forgets what is counted.
    assert 10 == status_of(counted, tasks[1:], NODES).restart_count
    assert 0 == status_of(STARTED, [task("running")], NODES).restart_count


def test_the_end_of_the_run_before_shows_while_the_bot_runs() -> None:
    end = LastExit(7, ExitReason.ERROR, time_ns("2026-01-01T00:01:01Z") or 0)
    assert end == status_of(STARTED, [ended(7), task("running", 2)], NODES).last_exit
    again = records.started(records.stopped(STARTED["Spec"], Run(exit_code=0, finish_time_ns=4)), 0)
    assert LastExit(0, ExitReason.COMPLETED, 4) == status_of(service(again), [task("running")], NODES).last_exit


def test_a_start_that_failed_before_its_process_began_hides_no_end() -> None:
    end = LastExit(7, ExitReason.ERROR, time_ns("2026-01-01T00:01:01Z") or 0)
    rejected = task("rejected", 2, Err="invalid mount config")
    assert end == status_of(STARTED, [ended(7), rejected, task("running", 3)], NODES).last_exit


@pytest.mark.parametrize("state", ["failed", "orphaned", "shutdown", "remove"])
def test_an_end_that_nobody_has_seen_hides_the_end_before_it(state: str) -> None:
    unseen = task(state, 2, ContainerStatus={"ContainerID": "c", "PID": 9})
    assert status_of(STARTED, [ended(7), unseen, task("running", 3)], NODES).last_exit is None


def test_a_bot_whose_service_is_gone_is_being_removed_until_its_last_task_is() -> None:
    status = removed_status([task("running", NodeID="node2")], NODES)
    assert (ContainerState.REMOVING, BOT, f"botmaker-{BOT}", "service1", "machine-2", True) == (
        status.state,
        status.bot_id,
        status.name,
        status.container_id,
        status.node,
        status.node_unreachable,
    )


@pytest.mark.parametrize("text", ["", "?", "[]", '{"unknown": 1}', "null"])
def test_records_that_cannot_be_read_hide_nothing_else(text: str) -> None:
    written = records.stopped(STARTED["Spec"])
    labels = {
        **written["Labels"],
        records.LABEL_LAST_RUN: text,
        records.LABEL_PHASE: text,
        records.LABEL_RESTARTS: text,
    }
    status = status_of(service({**written, "Labels": labels}), [], NODES)
    assert (ContainerState.EXITED, None, 0) == (status.state, status.exit_code, status.restart_count)


def test_a_stop_and_a_start_keep_everything_else_of_a_service() -> None:
    before = spec(ContainerConfig(labels={"tier": "free"}))
    after = records.started(records.stopped(before, replace(Run(), exit_code=1)), 5)
    assert before["TaskTemplate"] == after["TaskTemplate"]
    assert "free" == after["Labels"]["tier"]
