"""What a row of the engine's list says of a container that runs without a break."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.backends.docker.rows import listed_from_row
from container_manager.backends.docker.status import status_from_row
from container_manager.model import HealthStatus, PortBinding, Protocol


def row(status: str, state: str = "running", **fields: Any) -> dict[str, Any]:
    return {"Id": "a" * 64, "Names": ["/n"], "State": state, "Status": status, "Created": 1, **fields}


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("Up 1 second", 0.75),
        ("Up 59 seconds", 44.25),
        ("Up About a minute", 45),
        ("Up 2 minutes", 90),
        ("Up About an hour", 2700),
        # One and a half hours are rounded to two.
        ("Up 2 hours", 5400),
        ("Up 13 days", 13 * 86_400 * 0.75),
        ("Up 3 weeks (healthy)", 21 * 86_400 * 0.75),
        ("Up 2 months", 60 * 86_400 * 0.75),
        ("Up 2 years", 730 * 86_400 * 0.75),
    ],
)
def test_it_runs_for_at_least_as_long_as_the_engine_says(text: str, least: float) -> None:
    assert least == listed_from_row(row(text)).running_seconds


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Up Less than a second", "running"),
        ("Up 3 hours (Paused)", "paused"),
        ("Exited (0) 3 hours ago", "exited"),
        ("Restarting (1) 2 seconds ago", "restarting"),
        ("Created", "created"),
        ("Up 3 fortnights", "running"),
        ("", "running"),
        ("Removal In Progress", "removing"),
    ],
)
def test_of_others_nothing_is_known_but_the_row(text: str, state: str) -> None:
    listed = listed_from_row(row(text, state))
    assert (0, None, ()) == listed[1:]
    assert status_from_row(row(text, state)) == listed.status


@pytest.mark.parametrize(
    ("text", "health"),
    [
        ("Up 3 hours", None),
        ("Up 3 hours (healthy)", HealthStatus.HEALTHY),
        ("Up 3 hours (unhealthy)", HealthStatus.UNHEALTHY),
        ("Up 3 hours (health: starting)", HealthStatus.STARTING),
        # Podman's word.
        ("Up 3 hours (starting)", HealthStatus.STARTING),
    ],
)
def test_its_health_is_as_an_inspection_has_it(text: str, health: HealthStatus | None) -> None:
    assert health == listed_from_row(row(text)).health


def test_its_ports_are_as_an_inspection_has_them() -> None:
    ports = [
        {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "127.0.0.1"},
        {"PrivatePort": 53, "PublicPort": 53, "Type": "udp", "IP": "::"},
        {"PrivatePort": 81, "Type": "tcp"},
        {"PrivatePort": 82, "PublicPort": 82, "Type": "of another kind"},
    ]
    expected = (PortBinding(53, 53, "::", Protocol.UDP), PortBinding(80, 8080, "127.0.0.1", Protocol.TCP))
    assert expected == listed_from_row(row("Up 3 hours", Ports=ports)).ports
