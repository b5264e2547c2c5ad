"""Why a process ended: exit codes, out of memory, and every form of a stop signal."""

from __future__ import annotations

import pytest

from container_manager.backends.docker.status import status_from_inspect
from container_manager.backends.exit_reasons import exit_reason, signal_number
from container_manager.model import ContainerState, ExitReason, HealthStatus
from tests.unit.documents import exited, inspected, running, state

# As the engine parses them (moby/sys/signal, ParseSignal): any case, with or without SIG, or a number.
FORMS = [
    ("SIGTERM", 15),
    ("TERM", 15),
    ("term", 15),
    ("15", 15),
    ("015", 15),
    ("SIGINT", 2),
    ("sigint", 2),
    ("2", 2),
    ("quit", 3),
    ("SIGQUIT", 3),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("USR2", 12),
    ("SIGCLD", 17),
    ("SIGPOLL", 29),
    ("SIGIO", 29),
    ("SIGIOT", 6),
    ("SIGSTKFLT", 16),
    ("SIGWINCH", 28),
    ("SIGRTMIN", 34),
    ("rtmin", 34),
    ("SIGRTMIN+3", 37),
    ("RTMIN+15", 49),
    ("37", 37),
    ("SIGRTMAX-14", 50),
    ("rtmax-1", 63),
    ("SIGRTMAX", 64),
    ("64", 64),
]


@pytest.mark.parametrize(("text", "number"), FORMS)
def test_a_signal_is_understood_in_every_form_that_the_engine_accepts(text: str, number: int) -> None:
    assert number == signal_number(text)


@pytest.mark.parametrize("text", [None, "", 15, "SIG", "SIGSIGINT", "SIGRTMIN-1", "RTMAX+1", "_DFL", "nope", "-2", "²"])
def test_what_is_no_signal_has_no_number(text: object) -> None:
    assert signal_number(text) is None


@pytest.mark.parametrize(("text", "number"), FORMS)
def test_a_process_that_its_containers_stop_signal_ends_was_killed_and_not_in_error(text: str, number: int) -> None:
    assert ExitReason.KILLED is exit_reason(128 + number, text, oom_killed=False)


@pytest.mark.parametrize("stop_signal", [None, "", "SIGTERM", "SIGINT", "SIGRTMIN+3"])
@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "reason"),
    [
        (0, False, ExitReason.COMPLETED),
        (0, True, ExitReason.COMPLETED),
        (1, False, ExitReason.ERROR),
        (1, True, ExitReason.ERROR),
        (15, False, ExitReason.ERROR),
        (134, False, ExitReason.ERROR),
        (137, False, ExitReason.KILLED),
        (137, True, ExitReason.OOM_KILLED),
        (139, False, ExitReason.ERROR),
        (139, True, ExitReason.ERROR),
        (143, False, ExitReason.KILLED),
        (143, True, ExitReason.KILLED),
        (255, True, ExitReason.ERROR),
    ],
)
def test_out_of_memory_goes_with_137_alone_and_other_signals_are_errors(
    stop_signal: str | None, exit_code: int, oom_killed: bool, reason: ExitReason
) -> None:
    assert reason is exit_reason(exit_code, stop_signal, oom_killed=oom_killed)


@pytest.mark.parametrize(
    ("exit_code", "stop_signal", "reason"),
    [
        (130, "SIGINT", ExitReason.KILLED),
        (130, "SIGQUIT", ExitReason.ERROR),
        (130, None, ExitReason.ERROR),
        (165, "SIGRTMIN+3", ExitReason.KILLED),
        (143, "SIGINT", ExitReason.KILLED),
    ],
)
def test_a_status_has_the_stop_signal_of_its_own_container(
    exit_code: int, stop_signal: str | None, reason: ExitReason
) -> None:
    document = inspected(exited(exit_code), config={"StopSignal": stop_signal} if stop_signal else {})
    assert reason is status_from_inspect(document).exit_reason


@pytest.mark.parametrize("code", [1, 139, 143])
def test_a_run_that_ended_otherwise_after_a_childs_lack_of_memory_is_not_oom_killed(code: int) -> None:
    status = status_from_inspect(inspected(exited(code, OOMKilled=True)))
    assert ExitReason.OOM_KILLED is not status.exit_reason


@pytest.mark.parametrize(
    ("engine_state", "health"),
    [
        (running(), HealthStatus.UNHEALTHY),
        (state("paused", StartedAt=running()["StartedAt"]), HealthStatus.UNHEALTHY),
        *((state(each.value), None) for each in ContainerState if each.value not in ("running", "paused")),
        (exited(143), None),
    ],
    ids=lambda value: value.get("Status") if isinstance(value, dict) else None,
)
def test_health_is_of_a_process_that_runs_and_not_left_over(
    engine_state: dict[str, object], health: HealthStatus | None
) -> None:
    document = inspected({**engine_state, "Health": {"Status": "unhealthy", "FailingStreak": 3}})
    assert health is status_from_inspect(document).health
