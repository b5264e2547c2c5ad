"""Validation of whole requests; the larger subjects have their own files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_manager.errors import InvalidBotIdError, InvalidConfigError
from container_manager.model import ContainerConfig, PortBinding, Protocol, ResourceLimits
from container_manager.validation import (
    MAX_GRACE_SECONDS,
    MAX_ITEMS,
    check_bot_id,
    check_create,
    check_grace_seconds,
)
from tests.unit.violations import fields, violations


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, 0), (0.0, 0), (0.001, 1), (1, 1), (1.000000001, 2), (9.5, 10), (90, 90), (MAX_GRACE_SECONDS, 86_400)],
)
def test_a_grace_period_is_rounded_up_to_whole_seconds(seconds: float, expected: int) -> None:
    assert expected == check_grace_seconds(seconds)


@pytest.mark.parametrize("seconds", [-1, -1e-9, float("nan"), float("inf"), float("-inf"), 86_400.5, 10**12])
def test_a_grace_period_outside_the_bounds_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        check_grace_seconds(seconds)
    assert ["grace_period"] == [violation.field for violation in caught.value.violations]


def test_an_empty_config_is_valid() -> None:
    assert [] == violations()


def test_a_full_config_is_valid() -> None:
    config = ContainerConfig(
        image="ghcr.io/openclaw/openclaw:1",
        ai_provider="anthropic",
        ai_model="claude",
        channel_type="telegram",
        environment={"_A1": "", "TZ": "Europe/Berlin", "LINES": "one\ntwo", "EQ": "a=b", "x" * 200: "ü"},
        ports=(PortBinding(18789), PortBinding(53, 5353, "::1", Protocol.UDP), PortBinding(65_535, 65_535, "0.0.0.0")),
        network="bots.internal_1-a",
        extra_hosts={"host.docker.internal": "host-gateway", "my_db": "10.0.0.1", "six": "fe80::1"},
        command=("node", "", "--flag=x y"),
        resources=ResourceLimits(512 * 1024**2, 1_500_000_000, 256),
    )
    assert [] == violations(config, "8c5b1f3e-wish.1")


@pytest.mark.parametrize(
    "config",
    [
        ContainerConfig(environment={f"A{n}": "" for n in range(MAX_ITEMS + 1)}),
        ContainerConfig(ports=tuple(PortBinding(1) for _ in range(MAX_ITEMS + 1))),
        ContainerConfig(extra_hosts={f"h{n}": "10.0.0.1" for n in range(MAX_ITEMS + 1)}),
        ContainerConfig(command=("x",) * (MAX_ITEMS + 1)),
    ],
    ids=["environment", "ports", "extra_hosts", "command"],
)
def test_too_many_entries_are_refused(config: ContainerConfig) -> None:
    ((_, text),) = violations(config)
    assert f"must have at most {MAX_ITEMS} entries" == text


@pytest.mark.parametrize("name", ["ai_provider", "ai_model", "channel_type"])
@pytest.mark.parametrize("value", ["\0", "x" * 200_000])
def test_a_typed_field_with_nul_or_too_long_is_refused(name: str, value: str) -> None:
    assert [f"config.{name}"] == fields(ContainerConfig(**{name: value}))


@pytest.mark.parametrize("name", ["memory_bytes", "nano_cpus", "pids_limit"])
def test_a_negative_limit_is_refused(name: str) -> None:
    assert [f"config.resources.{name}"] == fields(ContainerConfig(resources=ResourceLimits(**{name: -1})))


def test_all_violations_are_told_at_once() -> None:
    config = ContainerConfig(
        ai_model="\0",
        environment={"1": "", "BOT_ID": ""},
        ports=(PortBinding(0, 70_000),),
        network="host",
        extra_hosts={"db": "x"},
        command=("",),
        resources=ResourceLimits(-1, -1, -1),
    )
    assert [
        "request_id",
        "config.ai_model",
        "config.environment",
        "config.environment",
        "config.ports[0].container_port",
        "config.ports[0].host_port",
        "config.network",
        "config.extra_hosts",
        "config.command[0]",
        "config.resources.memory_bytes",
        "config.resources.nano_cpus",
        "config.resources.pids_limit",
    ] == fields(config, request_id=" ")


def _texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=()), max_size=30)


_PORTS = st.builds(PortBinding, st.integers(), st.integers(), _texts(), st.sampled_from(Protocol))


@given(
    st.builds(
        ContainerConfig,
        *(_texts() for _ in range(4)),
        st.dictionaries(_texts(), _texts(), max_size=4),
        st.lists(_PORTS, max_size=4).map(tuple),
        _texts(),
        st.dictionaries(_texts(), _texts() | st.ip_addresses().map(str), max_size=4),
        st.lists(_texts(), max_size=4).map(tuple),
        st.builds(ResourceLimits, st.integers(), st.integers(), st.integers()),
    ),
    _texts(),
)
def test_no_config_raises_anything_but_the_domains_error(config: ContainerConfig, request_id: str) -> None:
    for field, text in violations(config, request_id):
        assert (field + text).encode("utf-8").decode("utf-8").isprintable()


@pytest.mark.parametrize("check", [check_bot_id, lambda value: check_create(value, ContainerConfig())])
def test_a_refusal_has_the_contracts_code(check: Callable[[Any], None]) -> None:
    with pytest.raises((InvalidBotIdError, InvalidConfigError)) as caught:
        check("\0")
    assert "INVALID_ARGUMENT" == caught.value.code
