"""Statuses from the engine's documents."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker.status import status_from_inspect, status_from_row
from container_manager.model import (
    ContainerState,
    ContainerStatus,
    ExitReason,
    HealthStatus,
    PortBinding,
    Protocol,
)
from tests.unit.documents import (
    BOT,
    CREATED_S,
    FINISHED,
    FINISHED_S,
    ID,
    IMAGE_ID,
    LABELS,
    NAME,
    NEVER,
    OTHER_BOT,
    STARTED,
    STARTED_S,
    exited,
    inspected,
    row,
    running,
    state,
)

CREATED_NS = CREATED_S * 10**9 + 123_456_789
STARTED_NS = STARTED_S * 10**9 + 500_000_000
FINISHED_NS = FINISHED_S * 10**9


def expected(container_state: ContainerState | None, **changes: Any) -> ContainerStatus:
    return ContainerStatus(
        **{
            "container_id": ID,
            "bot_id": BOT,
            "name": NAME,
            "state": container_state,
            "image": "botmaker/openclaw:1",
            "image_id": IMAGE_ID,
            "create_time_ns": CREATED_NS,
            **changes,
        }
    )


RAN = {"start_time_ns": STARTED_NS, "finish_time_ns": FINISHED_NS}
NOT_FOUND = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "nope": executable file not found in $PATH: unknown'
)
CASES = [
    ("created", state(), expected(ContainerState.CREATED)),
    ("running", running(), expected(ContainerState.RUNNING, start_time_ns=STARTED_NS)),
    (
        "running again after an exit: the last run's end and code are gone",
        running(FinishedAt=FINISHED, ExitCode=0),
        expected(ContainerState.RUNNING, start_time_ns=STARTED_NS),
    ),
    ("paused", state("paused", StartedAt=STARTED), expected(ContainerState.PAUSED, start_time_ns=STARTED_NS)),
    (
        "restarting shows the crash behind it",
        state("restarting", StartedAt=STARTED, FinishedAt=FINISHED, ExitCode=3),
        expected(ContainerState.RESTARTING, **RAN, exit_code=3, exit_reason=ExitReason.ERROR),
    ),
    (
        "exited 0",
        exited(0),
        expected(ContainerState.EXITED, **RAN, exit_code=0, exit_reason=ExitReason.COMPLETED),
    ),
    ("exited 1", exited(1), expected(ContainerState.EXITED, **RAN, exit_code=1, exit_reason=ExitReason.ERROR)),
    ("exited 127", exited(127), expected(ContainerState.EXITED, **RAN, exit_code=127, exit_reason=ExitReason.ERROR)),
    ("exited 137", exited(137), expected(ContainerState.EXITED, **RAN, exit_code=137, exit_reason=ExitReason.KILLED)),
    ("exited 143", exited(143), expected(ContainerState.EXITED, **RAN, exit_code=143, exit_reason=ExitReason.KILLED)),
    ("exited 139", exited(139), expected(ContainerState.EXITED, **RAN, exit_code=139, exit_reason=ExitReason.ERROR)),
    (
        "out of memory",
        exited(137, OOMKilled=True),
        expected(ContainerState.EXITED, **RAN, exit_code=137, exit_reason=ExitReason.OOM_KILLED),
    ),
    (
        "only a child was killed for want of memory",
        exited(0, OOMKilled=True),
        expected(ContainerState.EXITED, **RAN, exit_code=0, exit_reason=ExitReason.COMPLETED),
    ),
    (
        "never started, by the engine's fault",
        state(ExitCode=127, Error=NOT_FOUND),
        expected(ContainerState.CREATED, exit_reason=ExitReason.START_FAILED, error=NOT_FOUND),
    ),
    (
        "exited, and then failed to start: the code belongs to no run",
        exited(128, Error=NOT_FOUND),
        expected(ContainerState.EXITED, **RAN, exit_reason=ExitReason.START_FAILED, error=NOT_FOUND),
    ),
    (
        "an old error beside a run that goes on",
        running(Error="old"),
        expected(ContainerState.RUNNING, start_time_ns=STARTED_NS),
    ),
    ("removing", state("removing"), expected(ContainerState.REMOVING)),
    ("dead, never run", state("dead"), expected(ContainerState.DEAD)),
    (
        "dead after a run",
        state("dead", StartedAt=STARTED, FinishedAt=FINISHED, ExitCode=137),
        expected(ContainerState.DEAD, **RAN, exit_code=137, exit_reason=ExitReason.KILLED),
    ),
    ("a state of a later engine", state("hibernating"), expected(None)),
]


@pytest.mark.parametrize(("document", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_state_is_read(document: dict[str, Any], status: ContainerStatus) -> None:
    assert status == status_from_inspect(inspected(document))


@pytest.mark.parametrize(
    ("health", "status"),
    [
        (None, None),
        ({}, None),
        ({"Status": "none", "FailingStreak": 0, "Log": []}, None),
        ({"Status": "starting"}, HealthStatus.STARTING),
        ({"Status": "healthy"}, HealthStatus.HEALTHY),
        ({"Status": "unhealthy", "FailingStreak": 4}, HealthStatus.UNHEALTHY),
        ({"Status": "groggy"}, None),
    ],
)
def test_health_is_the_images_own(health: dict[str, Any] | None, status: HealthStatus | None) -> None:
    assert status is status_from_inspect(inspected(running(Health=health))).health


@pytest.mark.parametrize(
    ("ports", "bindings"),
    [
        (None, ()),
        ({}, ()),
        ({"80/tcp": None}, ()),
        ({"80/tcp": []}, ()),
        ({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}, (PortBinding(80, 8080, "127.0.0.1"),)),
        (
            {"80/tcp": [{"HostIp": "::", "HostPort": "49153"}, {"HostIp": "0.0.0.0", "HostPort": "49153"}]},
            (PortBinding(80, 49153, "0.0.0.0"), PortBinding(80, 49153, "::")),
        ),
        (
            {
                "9000/sctp": [{"HostIp": "10.0.0.1", "HostPort": "1"}],
                "443/tcp": None,
                "53/udp": [{"HostIp": "::1", "HostPort": "2"}],
                "53/tcp": [{"HostIp": "::1", "HostPort": "3"}],
            },
            (
                PortBinding(53, 3, "::1"),
                PortBinding(53, 2, "::1", Protocol.UDP),
                PortBinding(9000, 1, "10.0.0.1", Protocol.SCTP),
            ),
        ),
    ],
)
def test_ports_are_as_really_bound_by_container_port(
    ports: dict[str, Any] | None, bindings: tuple[PortBinding, ...]
) -> None:
    assert bindings == status_from_inspect(inspected(running(), NetworkSettings={"Ports": ports})).ports


@pytest.mark.parametrize("settings", [None, {}])
def test_missing_network_settings_are_no_ports(settings: dict[str, Any] | None) -> None:
    assert () == status_from_inspect(inspected(NetworkSettings=settings)).ports


@pytest.mark.parametrize(
    ("labels", "bot_id"),
    [
        (LABELS, BOT),
        (None, ""),
        ({}, ""),
        ({"botmaker.managed": "true"}, ""),
        ({"botmaker.managed": "true", "botmaker.bot-id": ""}, ""),
        ({"botmaker.managed": "true", "botmaker.bot-id": "bot-1"}, ""),
        ({"botmaker.managed": "true", "botmaker.bot-id": BOT.upper()}, ""),
        ({"botmaker.managed": "true", "botmaker.bot-id": BOT + "\n"}, ""),
        ({"botmaker.managed": "true", "botmaker.bot-id": OTHER_BOT}, OTHER_BOT),
    ],
)
def test_an_orphan_shows_without_a_bot(labels: dict[str, str] | None, bot_id: str) -> None:
    assert bot_id == status_from_inspect(inspected(labels=labels)).bot_id
    assert bot_id == status_from_row(row(Labels=labels)).bot_id


@pytest.mark.parametrize("labels", [None, {}, {**LABELS, "botmaker.request-id": "one"}])
def test_the_request_that_has_made_a_container_is_known(labels: dict[str, str] | None) -> None:
    request_id = "one" if labels else ""
    assert request_id == status_from_inspect(inspected(labels=labels)).request_id
    assert request_id == status_from_row(row(Labels=labels)).request_id


SECOND = 10**9
MOMENTS = [
    (NEVER, None),
    ("0001-01-01T00:00:00.000000001Z", None),
    ("", None),
    ("garbage", None),
    ("1970-01-01T00:00:00Z", 0),
    ("1970-01-01T00:00:00.000000001Z", 1),
    ("2026-11-20T10:00:05Z", STARTED_S * SECOND),
    ("2026-11-20T10:00:05.1Z", STARTED_S * SECOND + 100_000_000),
    ("2026-11-20T10:00:05.000000001Z", STARTED_S * SECOND + 1),
    ("2026-11-20T10:00:05.999999999Z", STARTED_S * SECOND + 999_999_999),
    ("2026-11-20T12:00:05.123456789+02:00", STARTED_S * SECOND + 123_456_789),
    ("2026-11-20T04:30:05-05:30", STARTED_S * SECOND),
    ("2024-02-29T23:59:59Z", 1_709_251_199 * SECOND),
]


@pytest.mark.parametrize(("text", "nanoseconds"), MOMENTS)
def test_times_are_exact_to_the_nanosecond_and_absent_in_year_1(text: str, nanoseconds: int | None) -> None:
    assert nanoseconds == status_from_inspect(inspected(running(StartedAt=text))).start_time_ns
    assert nanoseconds == status_from_inspect(inspected(Created=text)).create_time_ns


@pytest.mark.parametrize(("count", "expected_count"), [(0, 0), (7, 7), (None, 0)])
def test_the_restart_count_is_the_engines(count: int | None, expected_count: int) -> None:
    assert expected_count == status_from_inspect(inspected(running(), RestartCount=count)).restart_count


def test_the_name_loses_only_the_engines_slash() -> None:
    assert "a/b" == status_from_inspect(inspected(name="a/b")).name


def test_a_row_gives_what_the_list_holds() -> None:
    assert expected(ContainerState.RUNNING, create_time_ns=CREATED_S * 10**9) == status_from_row(row())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"Names": [f"/other/{BOT}", f"/{NAME}"]}, NAME),
        ({"Names": [f"/{NAME}", "/other/alias"]}, NAME),
        ({"Names": []}, ""),
        ({"Names": None}, ""),
    ],
)
def test_a_rows_name_is_its_own_and_no_links(changes: dict[str, Any], name: str) -> None:
    assert name == status_from_row(row(**changes)).name


def test_a_row_of_a_wedged_container_may_lack_almost_everything() -> None:
    assert ContainerStatus(ID, "", "", None, "", "", None) == status_from_row({"Id": ID})


def test_a_binding_that_cannot_be_read_is_left_out_and_the_rest_is_shown() -> None:
    hosts = [{"HostIp": "127.0.0.1", "HostPort": ""}, {"HostIp": "127.0.0.1", "HostPort": "8080"}]
    ports = {"NetworkSettings": {"Ports": {"80/tcp": hosts, "90/carrier-pigeon": hosts}}}
    status = status_from_inspect(inspected(running(), **ports))
    assert (PortBinding(80, 8080, "127.0.0.1"),) == status.ports


def test_the_error_of_a_dead_container_is_that_of_its_removal_and_no_failed_start() -> None:
    status = status_from_inspect(inspected(exited(3, Status="dead", Error="device or resource busy")))
    assert (ExitReason.ERROR, 3, "") == (status.exit_reason, status.exit_code, status.error)
