"""Validation of published ports, networks and extra hosts."""

from __future__ import annotations

import pytest

from container_manager.model import ContainerConfig, PortBinding, Protocol
from tests.unit.violations import fields, violations


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
        (PortBinding(80, 8080), PortBinding(80, 8080, "0.0.0.0")),
        (PortBinding(80, 8080, "0.0.0.0"), PortBinding(81, 8080)),
        (PortBinding(80, 8080, "10.0.0.7"), PortBinding(81, 8080, "0.0.0.0")),
        (PortBinding(80, 8080, "::"), PortBinding(80, 8080, "::1")),
        (PortBinding(80, 8080, "fd00::1"), PortBinding(80, 8080, "0::0")),
        (PortBinding(80, 8080, "::ffff:127.0.0.1"), PortBinding(80, 8080)),
        (PortBinding(80, 8080, "::ffff:0.0.0.0"), PortBinding(80, 8080, "10.0.0.7")),
        (PortBinding(80, 53, "0.0.0.0", Protocol.UDP), PortBinding(80, 53, "127.0.0.1", Protocol.UDP)),
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
        (PortBinding(80, host_ip="0.0.0.0"), PortBinding(80)),
        (PortBinding(80, 8080, "0.0.0.0"), PortBinding(80, 8081)),
        (PortBinding(80, 8080, "0.0.0.0"), PortBinding(80, 8080, protocol=Protocol.UDP)),
        # The engine binds :: for IPv6 alone.
        (PortBinding(80, 8080, "0.0.0.0"), PortBinding(80, 8080, "::")),
        (PortBinding(80, 8080), PortBinding(80, 8080, "::1")),
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


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a." * 126 + "!", "a" * 252 + "!", "a-" * 126 + "!", "a." * 1_000_000])
def test_no_host_name_takes_longer_than_its_length(name: str) -> None:
    """A pattern that backtracks would delay every caller, and take years for 40 labels."""
    assert ["config.extra_hosts"] == fields(ContainerConfig(extra_hosts={name: "1.2.3.4"}))
