"""Validation of hostname, labels and health check."""

from __future__ import annotations

from typing import Any

import pytest

from container_manager.model import ContainerConfig, HealthCheck
from tests.unit.violations import fields, violations


@pytest.mark.parametrize("hostname", ["", "a", "bot", "My-Bot-7", "7", "a" * 63, "a--b", "0b5f0c4e-6f0a-4c55"])
def test_one_rfc_1123_label_is_a_hostname(hostname: str) -> None:
    assert [] == violations(ContainerConfig(hostname=hostname))


@pytest.mark.parametrize(
    "hostname",
    ["-a", "a-", "-", "a.b", "a_b", "a b", "a\n", "\n", "é", "a" * 64, "a\0", "٣", "a/b", " a", "a" * 100_000],
    ids=lambda value: ascii(value)[:20],
)
def test_anything_else_is_no_hostname(hostname: str) -> None:
    ((field, text),) = violations(ContainerConfig(hostname=hostname))
    assert "config.hostname" == field
    assert len(text) < 200


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"team": "blue"},
        {"k": ""},
        {"com.example/x=y": "a=b\n"},
        {"k" * 63: "v" * 128},
        {"é" * 31: "é" * 64},
        {"botmaker": "x", "Botmaker.x": "x"},
        {f"k{number}": "v" for number in range(16)},
    ],
)
def test_up_to_sixteen_short_labels_are_the_callers_own(labels: dict[str, str]) -> None:
    assert [] == violations(ContainerConfig(labels=labels))


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"": "x"}, "config.labels"),
        ({"k" * 64: "x"}, "config.labels"),
        ({"é" * 32: "x"}, "config.labels"),
        ({"a\0b": "x"}, "config.labels"),
        ({"botmaker.": "x"}, "config.labels"),
        ({"botmaker.managed": "false"}, "config.labels"),
        ({"botmaker.bot-hostname": "x"}, "config.labels"),
        ({"k": "v" * 129}, "config.labels['k']"),
        ({"k": "é" * 65}, "config.labels['k']"),
        ({"k": "a\0"}, "config.labels['k']"),
        ({f"k{number}": "v" for number in range(17)}, "config.labels"),
        ({f"k{number}": "v" for number in range(1_001)}, "config.labels"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_label_that_is_too_long_or_the_services_own_is_refused(labels: dict[str, str], field: str) -> None:
    assert [field] == fields(ContainerConfig(labels=labels))


@pytest.mark.parametrize(
    "check",
    [
        HealthCheck(("true",)),
        HealthCheck(("node", "/app/health.js", "")),
        HealthCheck(("true",), 0.001, 86_400, 1.5, 2**32 - 1),
    ],
)
def test_a_health_check_needs_only_a_command(check: HealthCheck) -> None:
    assert [] == violations(ContainerConfig(health_check=check))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"command": ()}, "command"),
        ({"command": ("",)}, "command[0]"),
        ({"command": ("true", "a\0")}, "command[1]"),
        ({"command": ("x",) * 1_001}, "command"),
        ({"command": ("x" * 100_000,) * 11}, "command"),
        ({"interval_seconds": 0.0009}, "interval"),
        ({"timeout_seconds": -1.0}, "timeout"),
        ({"timeout_seconds": float("nan")}, "timeout"),
        ({"start_period_seconds": 86_400.001}, "start_period"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_health_check_that_the_engine_could_not_run_is_refused_by_its_field(
    changes: dict[str, Any], field: str
) -> None:
    check = HealthCheck(**{"command": ("true",), **changes})
    assert [f"config.health_check.{field}"] == fields(ContainerConfig(health_check=check))
