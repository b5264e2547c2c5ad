"""Ended runs and restarts of bots, counted from what the live view shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from container_manager import backend
from container_manager.engine import call_observer
from container_manager.model import ContainerState, ContainerStatus, ExitReason, LastExit
from container_manager.observability.bot_runs import BotRuns
from tests.unit.viewing import A, apply, trusted_view

RUNNING, EXITED, RESTARTING = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.RESTARTING


def ended(
    finish: int, reason: ExitReason = ExitReason.ERROR, state: ContainerState = EXITED, **further: Any
) -> ContainerStatus:
    run = {"start_time_ns": finish - 1, "finish_time_ns": finish, "exit_code": 1, "exit_reason": reason}
    return replace(A, state=state, **run | further)


def failed(finish: int, error: str = "no") -> ContainerStatus:
    """A start of it has failed since that end."""
    return replace(A, state=EXITED, finish_time_ns=finish, exit_reason=ExitReason.START_FAILED, error=error)


def again(finish: int, reason: ExitReason = ExitReason.ERROR, **further: Any) -> ContainerStatus:
    """It runs again after that end."""
    return replace(A, last_exit=LastExit(1, reason, finish), **further)


CASES: dict[str, tuple[list[ContainerStatus], dict[str, int], int]] = {
    "nothing has ended": ([A, replace(A, health=None, hostname="x")], {}, 0),
    "what had ended before the first look": ([ended(1), ended(1, hostname="x")], {}, 0),
    "stopped, started and stopped": (
        [A, ended(1, ExitReason.KILLED), again(1, ExitReason.KILLED), ended(2, ExitReason.COMPLETED)],
        {"KILLED": 1, "COMPLETED": 1},
        0,
    ),
    "a crash seen while it is revived": (
        [A, ended(1, state=RESTARTING, restart_count=1), again(1, restart_count=1)],
        {"ERROR": 1},
        1,
    ),
    "a crash seen only afterwards": ([A, again(1, ExitReason.OOM_KILLED, restart_count=1)], {"OOM_KILLED": 1}, 1),
    "stopped during the pause before a restart": (
        [A, ended(2, state=RESTARTING, restart_count=1), ended(3, start_time_ns=1, restart_count=1)],
        {"ERROR": 1},
        1,
    ),
    "several crashes between two looks": (
        [A, again(3, restart_count=3), ended(9, state=RESTARTING, restart_count=5)],
        {"ERROR": 5},
        5,
    ),
    "a crash of unknown reason": ([A, replace(A, restart_count=1)], {"UNKNOWN": 1}, 1),
    "a start by hand sets the count back": (
        [again(3, restart_count=3), ended(4, ExitReason.KILLED, restart_count=3), again(4, ExitReason.KILLED)],
        {"KILLED": 1},
        0,
    ),
    "a start that fails": (
        [
            replace(A, state=ContainerState.CREATED),
            replace(A, state=ContainerState.CREATED, exit_reason=ExitReason.START_FAILED, error="no"),
        ],
        {"START_FAILED": 1},
        0,
    ),
    "a start of a bot that has run fails": (
        [A, ended(5), failed(5), failed(5), failed(5, "another"), again(5), ended(9)],
        {"ERROR": 2, "START_FAILED": 2},
        0,
    ),
    "its end and the start that failed come in one look": (
        [A, replace(failed(5), last_exit=LastExit(1, ExitReason.ERROR, 5)), again(5)],
        {"ERROR": 1, "START_FAILED": 1},
        0,
    ),
}


@pytest.mark.parametrize(("statuses", "exits", "restarts"), CASES.values(), ids=CASES)
def test_each_end_is_counted_once_with_its_reason(
    statuses: list[ContainerStatus], exits: dict[str, int], restarts: int
) -> None:
    view, runs = trusted_view(), BotRuns()
    view.add_listener(runs)
    apply(view, *statuses)
    assert (exits, restarts) == ({reason: count for reason, count in runs.exits.items() if count}, runs.restarts)


def test_a_list_row_does_not_set_the_counts_back() -> None:
    view, runs = trusted_view(), BotRuns()
    view.add_listener(runs)
    apply(view, again(3, restart_count=3))
    apply(view, replace(A, start_time_ns=None), partial=True)
    view.lose()
    view.regain()
    apply(view, again(3, restart_count=3))
    assert (0, 0) == (sum(runs.exits.values()), runs.restarts)


def test_nothing_is_kept_of_a_container_that_is_gone() -> None:
    view, runs = trusted_view(), BotRuns()
    view.add_listener(runs)
    apply(view, ended(1))
    view.remove(A.container_id)
    assert {} == runs._seen
    apply(view, ended(2))
    assert 0 == sum(runs.exits.values())


def test_every_reason_exists_from_the_start() -> None:
    assert dict.fromkeys([*(reason.name for reason in ExitReason), "UNKNOWN"], 0) == BotRuns().exits


def test_every_outcome_of_an_engine_call_is_known() -> None:
    mapped = {call_observer.OK, *call_observer._OUTCOMES.values(), "not_found", "rejected", "error"}
    assert mapped == set(backend.CALL_OUTCOMES)
