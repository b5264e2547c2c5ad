"""The end that a restart hides: from inspections, from events, and never one of an older run."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker import run_ends
from container_manager.backends.docker.run_ends import RunEnds
from container_manager.backends.docker.status import status_from_inspect
from container_manager.engine.timestamps import time_ns
from container_manager.model import ExitReason, LastExit
from tests.unit.documents import ID, OTHER_ID, inspected, state


def moment(second: float) -> str:
    """A time as the engine writes it."""
    return f"2026-11-20T10:{int(second) // 60:02d}:{second % 60:012.9f}Z"


def nanoseconds(second: float) -> int:
    """The same time in nanoseconds; it may be before the first that :func:`moment` writes."""
    found = time_ns(moment(0))
    assert found is not None
    return found + round(second * 1e9)


def document(status: str, start: float, finish: float | None, container_id: str = ID, **changes: Any) -> dict[str, Any]:
    """An inspection: of the run that began at ``start``, with the engine's last end."""
    stop_signal = changes.pop("StopSignal", None)
    times = {"StartedAt": moment(start), **({} if finish is None else {"FinishedAt": moment(finish)})}
    config = {"StopSignal": stop_signal} if stop_signal else {}
    return inspected(state(status, **times, **changes), container_id=container_id, config=config)


def last(ends: RunEnds, *args: Any, **changes: Any) -> LastExit | None:
    """The last exit in the status of an inspection."""
    return last_of(ends, document(*args, **changes))


def last_of(ends: RunEnds, inspection: dict[str, Any]) -> LastExit | None:
    """The same, for a whole document."""
    return ends.last_exit(status_from_inspect(inspection), inspection)


def die(ends: RunEnds, second: float, code: object, *, oom: bool = False, container_id: str = ID) -> None:
    """The events of an end."""
    if oom:
        ends.event(container_id, "oom", {}, nanoseconds(second - 0.01))
    ends.event(container_id, "die", {"exitCode": code}, nanoseconds(second))


def end(code: int, reason: ExitReason, second: float) -> LastExit:
    return LastExit(code, reason, nanoseconds(second))


OOM = end(137, ExitReason.OOM_KILLED, 10)


def test_an_end_that_was_seen_while_restarting_shows_once_the_next_run_goes_on() -> None:
    ends = RunEnds()
    assert last(ends, "restarting", 1, 10, ExitCode=137, OOMKilled=True) is None
    assert OOM == last(ends, "running", 11, 10)
    assert OOM == last(ends, "paused", 11, 10)


def test_the_first_run_has_none() -> None:
    ends = RunEnds()
    assert last_of(ends, inspected()) is None
    assert last(ends, "running", 1, None) is None
    assert last(ends, "exited", 1, 10, ExitCode=1) is None


def test_the_run_before_stays_known_when_the_present_one_ends() -> None:
    ends = RunEnds()
    last(ends, "restarting", 1, 10, ExitCode=137, OOMKilled=True)
    last(ends, "running", 11, 10)
    assert OOM == last(ends, "restarting", 11, 20, ExitCode=3)
    assert end(3, ExitReason.ERROR, 20) == last(ends, "running", 21, 20)


@pytest.mark.parametrize(
    ("code", "oom", "stop_signal", "reason"),
    [
        ("137", True, None, ExitReason.OOM_KILLED),
        ("137", False, None, ExitReason.KILLED),
        ("1", True, None, ExitReason.ERROR),
        ("0", False, None, ExitReason.COMPLETED),
        ("143", False, None, ExitReason.KILLED),
        ("130", False, "SIGINT", ExitReason.KILLED),
        ("130", False, None, ExitReason.ERROR),
    ],
)
def test_an_end_that_no_inspection_saw_is_known_from_its_events(
    code: str, oom: bool, stop_signal: str | None, reason: ExitReason
) -> None:
    """As after a restart: the engine starts the next run a moment after the end."""
    ends = RunEnds()
    die(ends, 10.2, code, oom=oom)
    assert end(int(code), reason, 10) == last(ends, "running", 11, 10, StopSignal=stop_signal)


def test_podmans_event_tells_the_same() -> None:
    ends = RunEnds()
    ends.event(ID, "died", {"containerExitCode": "3"}, nanoseconds(10))
    assert end(3, ExitReason.ERROR, 10) == last(ends, "running", 11, 10)


PODMAN = pytest.mark.parametrize(
    ("action", "attributes"),
    [("died", {"containerExitCode": "137"}), ("die", {"containerExitCode": "137", "exitCode": "137"})],
    ids=["older", "newer"],
)


@PODMAN
def test_a_stop_of_this_service_tells_of_an_end_what_podmans_events_do_not(
    action: str, attributes: dict[str, str]
) -> None:
    """Podman has no event for the kill of a stop."""
    ends = RunEnds()
    ends.stops(status_from_inspect(document("running", 1, None)))
    ends.event(ID, action, attributes, nanoseconds(10.1))
    assert ExitReason.KILLED == reason_of(ends)
    ended = document("exited", 1, 10, ExitCode=137, OOMKilled=True)
    ends.last_exit(ends.with_reason(status_from_inspect(ended)), ended)
    assert end(137, ExitReason.KILLED, 10) == last(ends, "running", 11, 10)


@PODMAN
def test_a_stop_of_an_older_run_tells_nothing_of_podmans_next(action: str, attributes: dict[str, str]) -> None:
    ends = RunEnds()
    ends.stops(status_from_inspect(document("running", 0.1, None)))
    ends.event(ID, action, attributes, nanoseconds(10.1))
    assert ExitReason.OOM_KILLED == reason_of(ends)


def test_a_missed_event_leaves_the_end_unknown_and_shows_no_older_one() -> None:
    ends = RunEnds()
    die(ends, 10.2, "1")
    assert end(1, ExitReason.ERROR, 10) == last(ends, "running", 11, 10)
    # The run of 11 ended at 20, unseen.
    assert last(ends, "running", 21, 20) is None
    assert last(ends, "exited", 21, 30, ExitCode=0) is None


def test_an_inspection_before_a_missed_end_is_not_taken_for_it() -> None:
    ends = RunEnds()
    last(ends, "exited", 1, 10, ExitCode=137, OOMKilled=True)
    assert last(ends, "running", 21, 20) is None


def test_an_event_of_the_present_run_is_not_the_end_before_it() -> None:
    """The process has ended again, and the inspection is of a moment ago."""
    ends = RunEnds()
    die(ends, 30, "1")
    assert last(ends, "running", 11, 10) is None
    ends.event(ID, "start", {}, nanoseconds(31))
    assert last(ends, "running", 11, 10) is None


@pytest.mark.parametrize("back", [2, 60, 3_000])
def test_an_end_is_known_also_if_the_clock_was_set_back_before_the_next_start(back: int) -> None:
    ends = RunEnds()
    died, started = 3_500, 3_501 - back
    die(ends, died + 0.2, "3")
    ends.event(ID, "start", {}, nanoseconds(started + 0.1))
    assert end(3, ExitReason.ERROR, died) == last(ends, "running", started, died)
    die(ends, started + 1.7, "4")
    assert last(ends, "running", started, died) is None, "an event of the present run, and an inspection before it"
    ends.event(ID, "start", {}, nanoseconds(started + 2.1))
    assert end(4, ExitReason.ERROR, started + 1.5) == last(ends, "running", started + 2, started + 1.5)


def test_the_memory_that_an_older_run_wanted_is_not_this_ones() -> None:
    ends = RunEnds()
    die(ends, 5, "1", oom=True)
    die(ends, 10, "137")
    assert end(137, ExitReason.KILLED, 10) == last(ends, "running", 11, 10)


def test_an_oom_event_that_comes_after_the_end_is_of_that_end_also_if_the_engine_had_not_marked_it_yet() -> None:
    ends = RunEnds()
    die(ends, 10.1, "137")
    early = document("restarting", 1, 10, ExitCode=137)
    assert last_of(ends, early) is None
    assert ExitReason.KILLED == ends.with_reason(status_from_inspect(early)).exit_reason
    ends.event(ID, "oom", {}, nanoseconds(10.2))
    assert ExitReason.OOM_KILLED == ends.with_reason(status_from_inspect(early)).exit_reason
    ends.event(ID, "start", {}, nanoseconds(11))
    assert OOM == last(ends, "running", 11, 10)
    # It is not of the next run, too.
    die(ends, 20.1, "137")
    assert end(137, ExitReason.KILLED, 20) == last(ends, "running", 21, 20)


@pytest.mark.parametrize(("signal_sent", "code"), [("9", "137"), ("15", "143")])
def test_an_oom_event_that_comes_after_an_end_of_another_cause_changes_nothing(signal_sent: str, code: str) -> None:
    ends = RunEnds()
    ends.event(ID, "kill", {"signal": signal_sent}, nanoseconds(10))
    die(ends, 10.1, code)
    ends.event(ID, "oom", {}, nanoseconds(10.2))
    ended = status_from_inspect(document("exited", 1, 10, ExitCode=int(code)))
    assert ExitReason.KILLED == ends.with_reason(ended).exit_reason
    assert end(int(code), ExitReason.KILLED, 10) == last(ends, "running", 11, 10)


def test_a_kill_whose_end_was_missed_is_not_of_the_next_run() -> None:
    ends = RunEnds()
    ends.event(ID, "kill", {"signal": "9"}, nanoseconds(0.8))
    ends.event(ID, "start", {}, nanoseconds(1))
    die(ends, 10.1, "137", oom=True)
    assert OOM == last(ends, "running", 11, 10)


def test_repeated_events_change_nothing() -> None:
    """A new subscription repeats the last seconds, and may begin between oom and die."""
    ends = RunEnds()
    die(ends, 10, "137", oom=True)
    die(ends, 10, "137")
    assert OOM == last(ends, "running", 11, 10)
    die(ends, 10, "137", oom=True)
    die(ends, 20, "137")
    assert end(137, ExitReason.KILLED, 20) == last(ends, "running", 21, 20)


@pytest.mark.parametrize("code", [None, "", "x", "1.5", "-1", "٣", "9" * 5_000])
def test_an_event_without_a_readable_exit_code_says_nothing(code: object) -> None:
    ends = RunEnds()
    die(ends, 10, code)
    assert last(ends, "running", 11, 10) is None


def test_a_failed_start_hides_the_end_before_it_from_the_exit_code_but_not_here() -> None:
    ends = RunEnds()
    last(ends, "exited", 1, 10, ExitCode=137, OOMKilled=True)
    failed = document("exited", 1, 10, ExitCode=128, Error="port is already allocated")
    status = status_from_inspect(failed)
    assert (ExitReason.START_FAILED, None, OOM) == (status.exit_reason, status.exit_code, last_of(ends, failed))
    assert OOM == last(ends, "running", 30, 10)


def test_each_container_has_its_own_ends_and_a_removed_one_none() -> None:
    ends = RunEnds()
    die(ends, 10, "1")
    die(ends, 10, "3", container_id=OTHER_ID)
    assert end(1, ExitReason.ERROR, 10) == last(ends, "running", 11, 10)
    ends.forget(ID)
    assert last(ends, "running", 11, 10) is None
    assert end(3, ExitReason.ERROR, 10) == last(ends, "running", 11, 10, container_id=OTHER_ID)


def test_the_ends_of_many_containers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_ends, "_MAX_CONTAINERS", 2)
    ends = RunEnds()
    for name in ("a", "b", "c"):
        die(ends, 10, "1", container_id=name)
    found = [last(ends, "running", 11, 10, container_id=name) for name in ("a", "b", "c")]
    assert [None, *[end(1, ExitReason.ERROR, 10)] * 2] == found


def reason_of(ends: RunEnds, finish: float = 10, *, marked: bool = True) -> ExitReason | None:
    """The reason in a status of the run from 1 to ``finish``, which the engine marks as out of memory."""
    ended = document("exited", 1, finish, ExitCode=137, OOMKilled=marked)
    return ends.with_reason(status_from_inspect(ended)).exit_reason


def test_a_kill_tells_more_of_an_end_than_the_engines_mark_of_its_memory() -> None:
    ends = RunEnds()
    assert ExitReason.OOM_KILLED == reason_of(ends)
    ends.event(ID, "oom", {}, nanoseconds(5))
    ends.event(ID, "kill", {"signal": "15"}, nanoseconds(9))
    assert ExitReason.OOM_KILLED == reason_of(ends)
    ends.event(ID, "kill", {"signal": "9"}, nanoseconds(9.9))
    assert ExitReason.KILLED == reason_of(ends)
    die(ends, 10.1, 137)
    assert ExitReason.KILLED == reason_of(ends)
    assert end(137, ExitReason.KILLED, 10) == last(ends, "running", 11, 10)


def test_a_kill_of_an_older_run_tells_nothing() -> None:
    ends = RunEnds()
    ends.event(ID, "kill", {"signal": "9"}, nanoseconds(0.8))
    die(ends, 0.9, 137)
    assert ExitReason.OOM_KILLED == reason_of(ends)
    die(ends, 10.1, 137, oom=True)
    assert ExitReason.OOM_KILLED == reason_of(ends)
    assert OOM == last(ends, "running", 11, 10)


def test_a_stop_of_this_service_tells_the_same_before_its_events_have_come() -> None:
    run = status_from_inspect(document("running", 1, None))
    ends = RunEnds()
    ends.stops(run)
    assert ExitReason.KILLED == reason_of(ends)
    # The events come late, and tell that it had ended before.
    die(ends, 10.1, 137, oom=True)
    assert ExitReason.OOM_KILLED == reason_of(ends)
    ends = RunEnds()
    ends.stops(status_from_inspect(document("running", 0.5, None)))
    assert ExitReason.OOM_KILLED == reason_of(ends)


@pytest.mark.parametrize("is_inspected", [False, True], ids=["not inspected", "inspected"])
@pytest.mark.parametrize(
    ("oom", "reason"),
    [
        (None, ExitReason.KILLED),
        (10, ExitReason.KILLED),
        (35, ExitReason.OOM_KILLED),
        (39.99, ExitReason.OOM_KILLED),
        (40.05, ExitReason.OOM_KILLED),
        (40.2, ExitReason.OOM_KILLED),
    ],
)
def test_a_run_ended_for_lack_of_memory_only_if_that_was_shortly_before(
    oom: float | None, reason: ExitReason, is_inspected: bool
) -> None:
    """Whatever the engine's mark says, which may be of a child."""
    ends = RunEnds()
    ends.follow(nanoseconds(0))
    die(ends, 0.9, "137", oom=True)
    ends.event(ID, "start", {}, nanoseconds(1))
    events = [(40.1, "die", {"exitCode": "137"}), *([] if oom is None else [(oom, "oom", {})])]
    for second, action, attributes in sorted(events, key=lambda each: each[0]):
        ends.event(ID, action, attributes, nanoseconds(second))
    assert reason is reason_of(ends, 40)
    if is_inspected:
        ended = document("exited", 1, 40, ExitCode=137, OOMKilled=True)
        # Before and after its events were noted.
        for status in (status_from_inspect(ended), ends.with_reason(status_from_inspect(ended))):
            ends.last_exit(status, ended)
            assert end(137, reason, 40) == last(ends, "running", 41, 40, OOMKilled=True)
    ends.event(ID, "start", {}, nanoseconds(41))
    assert end(137, reason, 40) == last(ends, "running", 41, 40, OOMKilled=True)


@pytest.mark.parametrize(("marked", "reason"), [(True, ExitReason.OOM_KILLED), (False, ExitReason.KILLED)])
@pytest.mark.parametrize("oom", [10.1, 30, 34.9])
def test_the_engines_mark_decides_if_memory_was_lacking_some_seconds_before_the_end(
    oom: float, marked: bool, reason: ExitReason
) -> None:
    """Much memory takes time to free, and the clock may be set between a kill and its end."""
    ends = RunEnds()
    ends.follow(nanoseconds(0))
    ends.event(ID, "oom", {}, nanoseconds(oom))
    die(ends, 40.1, "137")
    assert reason is reason_of(ends, 40, marked=marked)
    last(ends, "exited", 1, 40, ExitCode=137, OOMKilled=marked)
    assert end(137, reason, 40) == last(ends, "running", 41, 40)


def test_the_engines_mark_counts_for_an_end_around_which_no_events_were_followed() -> None:
    """As after a restart of the service."""
    ends = RunEnds()
    ends.follow(nanoseconds(-19.9))
    die(ends, 10.1, "137")
    assert ExitReason.OOM_KILLED is reason_of(ends)
    last(ends, "exited", 1, 10, ExitCode=137, OOMKilled=True)
    assert OOM == last(ends, "running", 11, 10, OOMKilled=True)


def test_what_the_events_have_told_holds_once_they_are_followed_anew() -> None:
    ends = RunEnds()
    ends.follow(nanoseconds(-20))
    die(ends, 10.1, "137")
    ends.follow(nanoseconds(7))
    die(ends, 10.1, "137")
    assert ExitReason.KILLED is reason_of(ends)


@PODMAN
def test_the_mark_counts_on_podman_which_has_no_event_for_it(action: str, attributes: dict[str, str]) -> None:
    ends = RunEnds()
    ends.follow(nanoseconds(-30))
    ends.event(ID, action, attributes, nanoseconds(10.1))
    assert ExitReason.OOM_KILLED is reason_of(ends)
