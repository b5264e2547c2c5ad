"""Conformance 13 and 15: bots run in parallel, and the service forgets nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
from container_manager.config import BackendConfig, ServerConfig
from container_manager_client import connect
from tests.support.bots import Bots
from tests.support.calls import FOREVER, STUBBORN, Calls, fails_with
from tests.support.engine_truth import without_last_exits
from tests.support.serving import running_server


@pytest.fixture
def stubborn(calls: Calls, bots: Bots) -> list[str]:
    """Eight bots that ignore SIGTERM."""
    ids = [bots.new() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda bot_id: calls.run(bot_id, *STUBBORN, network="none"), ids))
    for bot_id in ids:
        bots.wait_for_log(bot_id, b"ready")
    return ids


def test_conformance_13_different_bots_stop_side_by_side_while_statuses_answer(
    calls: Calls, stubborn: list[str]
) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        stops = [pool.submit(calls.stop, bot_id, 4) for bot_id in stubborn]
        answered = 0
        while not any(stop.done() for stop in stops):
            assert calls.status(stubborn[answered % 8]) is not None
            answered += 1
        for stop in stops:
            stop.result()
    # One after another, they would take 32 s.
    assert time.monotonic() - begun < 16
    assert answered > 20


def test_conformance_13_calls_for_one_bot_run_one_at_a_time_in_their_order(
    calls: Calls, bots: Bots, stubborn: list[str]
) -> None:
    bot_id = stubborn[0]
    with ThreadPoolExecutor(2) as pool:
        stop = pool.submit(calls.stop, bot_id, 3)
        bots.wait_for_log(bot_id, b"asked")
        start = pool.submit(calls.start, bot_id)
        stop.result()
        start.result()
    status = calls.status(bot_id)
    assert status is not None
    assert status.state == pb.CONTAINER_STATE_RUNNING


@pytest.mark.usefixtures("early_answers")
def test_an_operation_that_holds_the_bot_past_the_deadline_aborts_the_next(
    calls: Calls, bots: Bots, stubborn: list[str]
) -> None:
    bot_id = stubborn[0]
    with ThreadPoolExecutor(1) as pool:
        stop = pool.submit(calls.stop, bot_id, 10)
        bots.wait_for_log(bot_id, b"asked")
        with fails_with("ABORTED", "OPERATION_IN_PROGRESS") as caught:
            calls.stop(bot_id, grace=10, timeout=4)
        assert caught[0].metadata["bot_id"] == bot_id
        stop.result()


def test_conformance_15_a_restarted_service_lists_the_same(
    bots: Bots, service_config: BackendConfig, session_dir: Path
) -> None:
    lists = []
    for turn in range(2):
        config = ServerConfig(service=service_config, listen=(f"unix://{session_dir}/turn/s.sock",))
        with running_server(config) as addresses, connect(addresses[0]) as channel:
            calls = Calls(ContainerManagerStub(channel))
            if turn == 0:
                calls.run(bots.new(), *FOREVER)
                calls.create(bots.new(), *FOREVER)
                calls.run(bots.new(), "true")
                calls.stop(bots.ids[2])
            # The engine forgets how the run before the present one ended, and so does a service that is restarted.
            lists.append(without_last_exits(calls.listed(bots.ids)))
    assert len(lists[0]) == 3
    assert lists[0] == lists[1]
