"""What callers may send, and what is refused."""

from __future__ import annotations

import uuid
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
    MAX_STRING_BYTES,
    check_bot_id,
    check_create,
    check_grace_seconds,
    is_bot_id,
)

BOT = "0b5f0c4e-6f0a-4c55-9c3e-2f1d9a7e8b11"


def violations(config: ContainerConfig | None = None, request_id: str = "") -> list[tuple[str, str]]:
    """Field and description of each violation; empty when all is well."""
    try:
        check_create(request_id, config or ContainerConfig())
    except InvalidConfigError as exc:
        return [(violation.field, violation.description) for violation in exc.violations]
    return []


def fields(config: ContainerConfig | None = None, request_id: str = "") -> list[str]:
    return [field for field, _ in violations(config, request_id)]


@pytest.mark.parametrize("bot_id", [BOT, "00000000-0000-0000-0000-000000000000", str(uuid.uuid4()), str(uuid.uuid1())])
def test_a_canonical_uuid_is_a_bot_id(bot_id: str) -> None:
    check_bot_id(bot_id)


@pytest.mark.parametrize(
    "bot_id",
    [
        "",
        " ",
        "../" + BOT,
        "../../etc/passwd",
        BOT + "/..",
        BOT.upper(),
        "{" + BOT + "}",
        "urn:uuid:" + BOT,
        BOT.replace("-", ""),
        BOT + "\n",
        "\n" + BOT,
        BOT + "\0",
        "\0" * 36,
        BOT[:-1],
        BOT + "1",
        BOT.replace("0", "\u0660"),
        BOT.replace("0", "\uff10"),
        BOT.replace("-", "\u2010"),
        BOT.replace("0", "g", 1),
        "a" * 10_000,
        (BOT + " ") * 300,
        "é" * 36,
        "💣" * 10_000,
    ],
    ids=ascii,
)
def test_anything_else_is_refused_in_a_short_sentence(bot_id: str) -> None:
    with pytest.raises(InvalidBotIdError) as caught:
        check_bot_id(bot_id)
    assert ["bot_id"] == [violation.field for violation in caught.value.violations]
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def _is_canonical(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@given(st.text() | st.uuids().map(str) | st.from_regex(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\n?"))
def test_a_bot_id_is_accepted_exactly_if_it_is_canonical(text: str) -> None:
    assert _is_canonical(text) == is_bot_id(text)


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
    "name",
    ["", "A=B", "=", "1A", "9", "A B", "A\0", "A\n", "\n", "A-B", "A.B", "Ä", "a\u0661", "A" * 300 + "!"],
    ids=ascii,
)
def test_an_environment_name_outside_the_grammar_is_refused(name: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={name: "x"}))
    assert "config.environment" == field
    assert "does not match" in text
    assert len(text) < 200


@pytest.mark.parametrize("name", ["BOT_ID", "AI_PROVIDER", "AI_MODEL", "CHANNEL_TYPE"])
def test_a_reserved_environment_name_is_refused(name: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={name: "x"}))
    assert "config.environment" == field
    assert name in text


@pytest.mark.parametrize("name", ["bot_id", "BOT_ID_", "_BOT_ID", "_", "PATH"])
def test_a_name_like_a_reserved_one_is_accepted(name: str) -> None:
    assert [] == violations(ContainerConfig(environment={name: "x"}))


@pytest.mark.parametrize("value", ["\0", "a\0b", "x" * MAX_STRING_BYTES, "ü" * (MAX_STRING_BYTES // 2)])
def test_an_environment_value_with_nul_or_too_long_is_refused_without_being_repeated(value: str) -> None:
    ((field, text),) = violations(ContainerConfig(environment={"SOME": value}))
    assert "config.environment['SOME']" == field
    assert len(text) < 100


def test_the_longest_variable_that_linux_takes_is_accepted() -> None:
    longest = "x" * (MAX_STRING_BYTES - len("A="))
    assert [] == violations(ContainerConfig(environment={"A": longest}))
    assert ["config.environment['A']"] == fields(ContainerConfig(environment={"A": longest + "x"}))


def test_an_environment_too_large_in_all_is_refused() -> None:
    config = ContainerConfig(environment={f"A{n}": "x" * 120_000 for n in range(9)})
    assert ["config.environment"] == fields(config)


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


@pytest.mark.parametrize(
    ("port", "field"),
    [
        (PortBinding(0), "container_port"),
        (PortBinding(70_000), "container_port"),
        (PortBinding(65_536), "container_port"),
        (PortBinding(-1), "container_port"),
        (PortBinding(80, 70_000), "host_port"),
        (PortBinding(80, -1), "host_port"),
        (PortBinding(80, host_ip="localhost"), "host_ip"),
        (PortBinding(80, host_ip="256.0.0.1"), "host_ip"),
        (PortBinding(80, host_ip="127.0.0.1 "), "host_ip"),
        (PortBinding(80, host_ip="127.0.0.1\n"), "host_ip"),
        (PortBinding(80, host_ip="\u0661\u0662\u0667.0.0.1"), "host_ip"),
        (PortBinding(80, host_ip="127.1"), "host_ip"),
        (PortBinding(80, host_ip="fe80::1%eth0"), "host_ip"),
        (PortBinding(80, host_ip="[::1]"), "host_ip"),
        (PortBinding(80, host_ip="0.0.0.0/0"), "host_ip"),
        (PortBinding(80, host_ip="\0"), "host_ip"),
        (PortBinding(80, host_ip="9" * 10_000), "host_ip"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_bad_port_names_its_index_and_field(port: PortBinding, field: str) -> None:
    ports = (PortBinding(1), port)
    assert [f"config.ports[1].{field}"] == fields(ContainerConfig(ports=ports))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PortBinding(80, 8080), PortBinding(81, 8080)),
        (PortBinding(80, 8080, "::1"), PortBinding(80, 8080, "::1")),
        (PortBinding(80, 8080, protocol=Protocol.UDP), PortBinding(81, 8080, protocol=Protocol.UDP)),
        (PortBinding(80, 8080), PortBinding(81, 8080, "127.0.0.1")),
        (PortBinding(80, 8080, "::1"), PortBinding(81, 8080, "0:0:0:0:0:0:0:1")),
    ],
)
def test_a_host_port_bound_twice_is_refused(first: PortBinding, second: PortBinding) -> None:
    assert ["config.ports[1].host_port"] == fields(ContainerConfig(ports=(first, second)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PortBinding(80), PortBinding(80)),
        (PortBinding(80, 8080), PortBinding(80, 8081)),
        (PortBinding(80, 8080), PortBinding(80, 8080, protocol=Protocol.UDP)),
        (PortBinding(80, 8080), PortBinding(80, 8080, "127.0.0.2")),
    ],
)
def test_ports_that_differ_on_the_host_are_accepted(first: PortBinding, second: PortBinding) -> None:
    assert [] == violations(ContainerConfig(ports=(first, second)))


@pytest.mark.parametrize("network", ["", "bridge", "none", "default", "bots", "Bots.2_x-y", "a" * 128])
def test_a_network_by_name_is_accepted(network: str) -> None:
    assert [] == violations(ContainerConfig(network=network))


@pytest.mark.parametrize(
    "network",
    [
        "host",
        "container:abc",
        "container:",
        "ns:/proc/1/ns/net",
        "-x",
        ".",
        "a b",
        "a/b",
        "bots\n",
        "é",
        "\0",
        "a" * 129,
    ],
    ids=ascii,
)
def test_another_namespace_or_no_name_is_refused(network: str) -> None:
    assert ["config.network"] == fields(ContainerConfig(network=network))


def test_ports_cannot_be_published_without_a_network() -> None:
    assert ["config.ports"] == fields(ContainerConfig(network="none", ports=(PortBinding(80),)))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "10.0.0.1"),
        ("a b", "10.0.0.1"),
        ("a:b", "10.0.0.1"),
        ("-a", "10.0.0.1"),
        ("a\n", "10.0.0.1"),
        ("a..b", "10.0.0.1"),
        ("é", "10.0.0.1"),
        ("a" * 64, "10.0.0.1"),
        ("a." * 127 + "a", "10.0.0.1"),
        ("db", ""),
        ("db", "db2"),
        ("db", "Host-Gateway"),
        ("db", "10.0.0.1 evil"),
        ("db", "10.0.0.1\n6.6.6.6 bank"),
        ("db", "\0"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_an_extra_host_that_is_no_name_and_address_is_refused(host: str, address: str) -> None:
    assert ["config.extra_hosts"] == fields(ContainerConfig(extra_hosts={host: address}))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("",), ["config.command[0]"]),
        (("a\0",), ["config.command[0]"]),
        (("a", "x" * 200_000), ["config.command[1]"]),
        (("x" * 100_000,) * 11, ["config.command"]),
    ],
    ids=["empty", "nul", "long", "total"],
)
def test_a_command_that_cannot_run_is_refused(command: tuple[str, ...], expected: list[str]) -> None:
    assert expected == fields(ContainerConfig(command=command))


@pytest.mark.parametrize("name", ["memory_bytes", "nano_cpus", "pids_limit"])
def test_a_negative_limit_is_refused(name: str) -> None:
    assert [f"config.resources.{name}"] == fields(ContainerConfig(resources=ResourceLimits(**{name: -1})))


@pytest.mark.parametrize("request_id", ["", "a", "~" * 128, str(uuid.uuid4())])
def test_a_printable_request_id_is_accepted(request_id: str) -> None:
    assert [] == violations(request_id=request_id)


@pytest.mark.parametrize("request_id", [" ", "a b", "a\n", "\0", "é", "x" * 129, "x" * 10_000, "\x7f"], ids=ascii)
def test_another_request_id_is_refused(request_id: str) -> None:
    ((field, text),) = violations(request_id=request_id)
    assert ("request_id", True) == (field, len(text) < 100)


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
