"""Conformance 13 on every backend: bots' calls run in parallel, and those of one bot in their order.

A backend's test module inherits the class. Its fixtures: ``calls``; ``stubborn``, eight bots that run
:data:`~tests.support.calls.STUBBORN` and have their handler; ``wait_for_log``, which waits until a bot has written
something.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from botmaker.container.v1 import container_manager_pb2 as pb
from tests.support.calls import Calls, fails_with

WaitForLog = Callable[[str, bytes], None]


class SideBySideContract:
    """Eight bots that take as long to stop as their grace period."""

    def test_conformance_13_different_bots_stop_side_by_side_while_statuses_answer(
        self, calls: Calls, stubborn: list[str]
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
        self, calls: Calls, wait_for_log: WaitForLog, stubborn: list[str]
    ) -> None:
        bot_id = stubborn[0]
        with ThreadPoolExecutor(2) as pool:
            stop = pool.submit(calls.stop, bot_id, 3)
            wait_for_log(bot_id, b"asked")
            start = pool.submit(calls.start, bot_id)
            stop.result()
            start.result()
        status = calls.status(bot_id)
        assert status is not None
        assert status.state == pb.CONTAINER_STATE_RUNNING

    @pytest.mark.usefixtures("early_answers")
    def test_an_operation_that_holds_the_bot_past_the_deadline_aborts_the_next(
        self, calls: Calls, wait_for_log: WaitForLog, stubborn: list[str]
    ) -> None:
        bot_id = stubborn[0]
        with ThreadPoolExecutor(1) as pool:
            stop = pool.submit(calls.stop, bot_id, 10)
            wait_for_log(bot_id, b"asked")
            with fails_with("ABORTED", "OPERATION_IN_PROGRESS") as caught:
                calls.stop(bot_id, grace=10, timeout=4)
            assert caught[0].metadata["bot_id"] == bot_id
            stop.result()
