"""Conformance 5, 6 and 14: how a process ends, and what its status shows."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.backends.docker.docker_service import DockerService
from container_manager.config import BackendConfig
from container_manager.model import ContainerConfig, ContainerState
from tests.support.bots import Bots
from tests.support.calls import STUBBORN, Calls, fails_with
from tests.support.waiting import wait_until


def run_stubborn(calls: Calls, bots: Bots) -> str:
    """A bot whose process ignores SIGTERM, once its handler is installed."""
    bot_id = bots.new()
    calls.run(bot_id, *STUBBORN)
    bots.wait_for_log(bot_id, b"ready")
    return bot_id


def ended(calls: Calls, bot_id: str) -> pb.ContainerStatus:
    """The status once the process is down."""

    def down() -> pb.ContainerStatus | None:
        status = calls.status(bot_id)
        return status if status is not None and status.HasField("exit_code") else None

    return wait_until(down, "the process ends")


def test_conformance_05_a_process_that_ignores_sigterm_is_killed_after_the_grace(calls: Calls, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    begun = time.monotonic()
    calls.stop(bot_id, grace=2)
    status = calls.status(bot_id)
    assert time.monotonic() - begun >= 2
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_EXITED
    assert status.exit_code == 137
    assert status.exit_reason == pb.EXIT_REASON_KILLED


def test_conformance_05_zero_grace_kills_at_once(calls: Calls, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    calls.stop(bot_id, grace=0)
    status = calls.status(bot_id)
    assert status is not None
    assert status.exit_code == 137
    assert b"asked" not in bots.containers()[0].logs()


def test_conformance_05_part_seconds_of_grace_are_rounded_up(calls: Calls, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    begun = time.monotonic()
    calls.stop(bot_id, grace=0.2)
    assert time.monotonic() - begun >= 1


def test_conformance_05_no_time_out_of_server_or_engine_client_cuts_a_grace_short(
    bots: Bots, service_config: BackendConfig
) -> None:
    """A grace of 4 s with an engine time-out of 1 s stands for 90 s with 60 s."""
    config = BackendConfig(**{**vars(service_config), "engine_timeout_seconds": 1})
    service = DockerService(config)
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=STUBBORN))
    service.start_container(bot_id)
    bots.wait_for_log(bot_id, b"ready")
    begun = time.monotonic()
    service.stop_container(bot_id, 4)
    assert time.monotonic() - begun >= 4
    status = service.get_container_status(bot_id)
    service.close()
    assert status is not None
    assert status.state is ContainerState.EXITED
    assert status.exit_code == 137


@pytest.mark.slow
def test_conformance_05_a_grace_of_90_seconds_is_not_cut_short(calls: Calls, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    begun = time.monotonic()
    calls.stop(bot_id, grace=90)
    assert time.monotonic() - begun >= 90
    status = calls.status(bot_id)
    assert status is not None
    assert status.exit_code == 137


def test_conformance_05_the_servers_default_grace_applies_when_none_is_given(
    bots: Bots, service_config: BackendConfig
) -> None:
    service = DockerService(BackendConfig(**{**vars(service_config), "grace_seconds": 0}))
    bot_id = bots.new()
    service.create_container(bot_id, ContainerConfig(command=STUBBORN))
    service.start_container(bot_id)
    service.stop_container(bot_id)
    status = service.get_container_status(bot_id)
    service.close()
    assert status is not None
    assert status.exit_code == 137


def test_conformance_06_out_of_memory_is_137_and_told_apart_from_a_kill(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    eat = ("sh", "-c", "x=a; while :; do x=$x$x; done")
    calls.run(bot_id, *eat, resources=pb.ResourceLimits(memory_bytes=16 * 1024 * 1024))
    status = ended(calls, bot_id)
    assert status.exit_code == 137
    assert status.exit_reason == pb.EXIT_REASON_OOM_KILLED


def test_conformance_06_a_clean_exit_is_completed(calls: Calls, bots: Bots) -> None:
    bot_id = bots.new()
    calls.run(bot_id, "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    # The kernel drops a signal to a process 1 that has no handler yet.
    bots.wait_for_log(bot_id, b"ready")
    calls.stop(bot_id, grace=10)
    status = calls.status(bot_id)
    assert status is not None
    assert status.exit_code == 0
    assert status.exit_reason == pb.EXIT_REASON_COMPLETED


def test_conformance_14_a_client_that_cancels_in_mid_stop_still_leaves_the_container_stopped(
    calls: Calls, bots: Bots, stub: ContainerManagerStub
) -> None:
    bot_id = run_stubborn(calls, bots)
    request = pb.StopContainerRequest(bot_id=bot_id, grace_period=Duration(seconds=2))
    call = stub.StopContainer.future(request)
    bots.wait_for_log(bot_id, b"asked")
    call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert ended(calls, bot_id).exit_code == 137


@pytest.mark.usefixtures("early_answers")
def test_a_deadline_that_passes_in_mid_stop_is_told_and_the_stop_goes_on(calls: Calls, bots: Bots) -> None:
    bot_id = run_stubborn(calls, bots)
    with fails_with("DEADLINE_EXCEEDED", "ENGINE_TIMEOUT"):
        calls.stop(bot_id, grace=10, timeout=4)
    assert ended(calls, bot_id).exit_code == 137
