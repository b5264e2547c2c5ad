"""The deadline of an operation, which its caller and its worker share."""

from __future__ import annotations

import threading

import pytest

from container_manager import deadline as deadline_module
from container_manager.deadline import Deadline
from container_manager.errors import EngineTimeoutError, OperationCancelledError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [1_000.0]
    monkeypatch.setattr(deadline_module.time, "monotonic", lambda: now[0])
    return now


def test_without_an_end_nothing_is_bounded() -> None:
    deadline = Deadline()
    assert deadline.remaining() is None
    assert 60 == deadline.at_most(60)
    deadline.check()


def test_what_remains_shrinks_to_zero_and_no_further(clock: list[float]) -> None:
    deadline = Deadline(5)
    assert 5 == deadline.remaining()
    clock[0] += 3
    assert 2 == deadline.remaining()
    clock[0] += 30
    assert 0 == deadline.remaining()


@pytest.mark.parametrize(("seconds", "expected"), [(60, 5), (5, 5), (2.5, 2.5)])
def test_a_step_may_take_no_longer_than_what_remains(seconds: float, expected: float, clock: list[float]) -> None:
    assert expected == Deadline(5).at_most(seconds)


def test_a_step_is_never_given_no_time_at_all() -> None:
    """A socket's time-out of 0 would mean non-blocking."""
    assert 0 < Deadline(0).at_most(60) < 0.1


def test_check_raises_once_the_time_is_up(clock: list[float]) -> None:
    deadline = Deadline(5)
    deadline.check()
    clock[0] += 5
    with pytest.raises(EngineTimeoutError):
        deadline.check()
    with pytest.raises(EngineTimeoutError):
        deadline.commit()


def test_check_raises_once_cancelled() -> None:
    deadline = Deadline(5)
    assert deadline.cancel() is True
    with pytest.raises(OperationCancelledError):
        deadline.check()
    with pytest.raises(OperationCancelledError):
        deadline.commit()


def test_cancel_counts_no_more_after_commit() -> None:
    deadline = Deadline(5)
    deadline.commit()
    assert deadline.cancel() is False
    deadline.check()


def test_a_callback_is_called_once_at_cancel() -> None:
    deadline, called = Deadline(), []
    deadline.on_cancel(lambda: called.append(1))
    assert [] == called
    deadline.cancel()
    deadline.cancel()
    assert [1] == called


def test_a_callback_that_was_taken_back_is_not_called_and_not_kept() -> None:
    deadline, called = Deadline(), []
    take_back = deadline.on_cancel(lambda: called.append(1))
    take_back()
    take_back()
    assert not deadline._callbacks
    deadline.cancel()
    assert [] == called


def test_a_callback_after_cancel_is_called_at_once() -> None:
    deadline, called = Deadline(), []
    deadline.cancel()
    deadline.on_cancel(lambda: called.append(1))
    assert [1] == called


def test_a_committed_operation_calls_no_callback() -> None:
    deadline, called = Deadline(), []
    deadline.on_cancel(lambda: called.append(1))
    deadline.commit()
    deadline.cancel()
    assert [] == called


def test_commit_and_cancel_never_both_succeed() -> None:
    for _ in range(200):
        deadline, outcomes = Deadline(), []
        barrier = threading.Barrier(2)

        def commit(deadline: Deadline = deadline, outcomes: list = outcomes, barrier=barrier) -> None:
            barrier.wait()
            try:
                deadline.commit()
            except OperationCancelledError:
                return
            outcomes.append("committed")

        def cancel(deadline: Deadline = deadline, outcomes: list = outcomes, barrier=barrier) -> None:
            barrier.wait()
            if deadline.cancel():
                outcomes.append("cancelled")

        threads = [threading.Thread(target=target) for target in (commit, cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 == len(outcomes)
