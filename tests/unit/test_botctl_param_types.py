"""Values of the command line, and those that are refused."""

from __future__ import annotations

from typing import Any

import click
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from botctl.param_types import COUNT, CPUS, DURATION, HOST, PORT, SIZE, TIME, VARIABLE
from botctl.rendering.words import now, port_text, time_text
from botmaker.container.v1 import container_manager_pb2 as pb

TCP, UDP = pb.PROTOCOL_TCP, pb.PROTOCOL_UDP
GOOD: list[tuple[Any, str, Any]] = [
    (SIZE, "0", 0),
    (SIZE, "1000", 1000),
    (SIZE, "512m", 512 << 20),
    (SIZE, "1.5G", 3 << 29),
    (SIZE, "64 MiB", 64 << 20),
    (SIZE, "2kb", 2048),
    (CPUS, "1.5", 1_500_000_000),
    (CPUS, "0.1", 100_000_000),
    (COUNT, "9223372036854775807", (1 << 63) - 1),
    (DURATION, "10", Duration(seconds=10)),
    (DURATION, "1.5s", Duration(seconds=1, nanos=500_000_000)),
    (DURATION, "250ms", Duration(nanos=250_000_000)),
    (DURATION, "2m", Duration(seconds=120)),
    (DURATION, "24h", Duration(seconds=86_400)),
    (TIME, "2026-11-24T08:30:00Z", Timestamp(seconds=1_795_509_000)),
    (TIME, "2026-11-24 09:30:00.000000001+01:00", Timestamp(seconds=1_795_509_000, nanos=1)),
    (PORT, "80", pb.PortBinding(container_port=80, protocol=TCP)),
    (PORT, "8080:80/UDP", pb.PortBinding(container_port=80, host_port=8080, protocol=UDP)),
    (PORT, "0.0.0.0:8080:80", pb.PortBinding(container_port=80, host_port=8080, host_ip="0.0.0.0", protocol=TCP)),
    (PORT, "127.0.0.1::80", pb.PortBinding(container_port=80, host_ip="127.0.0.1", protocol=TCP)),
    (PORT, "[::1]:1:2", pb.PortBinding(container_port=2, host_port=1, host_ip="::1", protocol=TCP)),
    (VARIABLE, "A=b=c ", ("A", "b=c ")),
    (VARIABLE, "A=", ("A", "")),
    (HOST, "db:10.0.0.5", ("db", "10.0.0.5")),
    (HOST, "db=::1", ("db", "::1")),
    (HOST, "db:fe80::1", ("db", "fe80::1")),
    (HOST, "host.docker.internal:host-gateway", ("host.docker.internal", "host-gateway")),
]
BAD: list[tuple[Any, str]] = [
    *((SIZE, text) for text in ("", "m", "-1", "5x", "1e3", "nan", "9223372036854775808", "8388608t", "٣m")),
    *((CPUS, text) for text in ("", "one", "-1", "inf", "1,5")),
    *((COUNT, text) for text in ("", "1.5", "-1", "9223372036854775808")),
    *((DURATION, text) for text in ("", "soon", "-1s", "1d", "1h30m", "9" * 400)),
    *((TIME, text) for text in ("", "now", "2026-11-24", "2026-13-24T08:30:00Z", "2026-11-24T08:30:00")),
    *((PORT, text) for text in ("", "http", "0", "65536", "65536:80", "80/icmp", "1.2.3:1:2", "1:2:3:4", "-80")),
    *((VARIABLE, text) for text in ("", "A", "=b")),
    *((HOST, text) for text in ("", "db", ":1")),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD, ids=[f"{kind.name} {text}" for kind, text, _ in GOOD])
def test_a_value_is_read(kind: Any, text: str, value: Any) -> None:
    assert value == kind.convert(text, None, None)


@pytest.mark.parametrize(("kind", "text"), BAD, ids=[f"{kind.name} {text[:20]!r}" for kind, text in BAD])
def test_an_invalid_value_is_refused_with_an_example(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a .*such as|is not .*as in|is not a whole number"):
        kind.convert(text, None, None)


def test_a_duration_means_that_long_ago() -> None:
    ago = TIME.convert("10m", None, None)
    assert 599 < (now().ToNanoseconds() - ago.ToNanoseconds()) / 1e9 < 620


def test_a_time_that_is_shown_can_be_given_back() -> None:
    time = Timestamp(seconds=1_795_509_000, nanos=7)
    assert "2026-11-24T08:30:00.000000007Z" == time_text(time)
    assert time == TIME.convert(time_text(time), None, None)


@pytest.mark.parametrize("text", ["8080:80", "8080:80/udp", "0.0.0.0:8080:80", "[::1]:1:2/sctp"])
def test_a_port_that_is_shown_can_be_given_back(text: str) -> None:
    assert text == port_text(PORT.convert(text, None, None))
