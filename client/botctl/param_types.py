"""The types of values on the command line: sizes, durations, ports, times."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    from botmaker.container.v1 import container_manager_pb2 as pb

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([bkmgt])(?:i?b)?)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", re.ASCII)
_DURATION_UNITS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PORT = re.compile(
    r"(?:(?:(\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(\d{0,5}):)?(\d{1,5})(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE
)
_MAX_PORT = 65_535
_MAX_UINT32 = (1 << 32) - 1
_MAX_INT64 = (1 << 63) - 1
_MAX_SECONDS = 315_576_000_000
_NANOS = 1_000_000_000


class _TextType(click.ParamType):  # type: ignore[type-arg] # older ones have no parameter
    """A type that :meth:`read` parses. It raises :class:`ValueError` for an invalid text."""

    expected = ""

    def read(self, text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.read(value.strip())
        except (ValueError, OverflowError, InvalidOperation):
            self.fail(f"{value!r} is not {self.expected}", param, ctx)


class _Size(_TextType):
    name = "size"
    expected = "a size such as 512m or 1.5g (b, k, m, g, t: powers of 1024)"

    def read(self, text: str) -> int:
        match = _matched(_SIZE, text)
        return _int64(Decimal(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()])


class _Cpus(_TextType):
    name = "cpus"
    expected = "a number of CPUs such as 0.5 or 2"

    def read(self, text: str) -> int:
        return _int64(Decimal(_matched(re.compile(r"\d+(?:\.\d+)?", re.ASCII), text)[0]) * _NANOS)


class _Count(_TextType):
    name = "count"
    expected = "a whole number, zero for no limit"

    def read(self, text: str) -> int:
        return _int64(Decimal(_matched(re.compile(r"\d+", re.ASCII), text)[0]))


class _Retries(_TextType):
    name = "retries"
    expected = "a whole number below 2³², zero for the engine's default"

    def read(self, text: str) -> int:
        number = int(_matched(re.compile(r"\d{1,10}", re.ASCII), text)[0])
        if number > _MAX_UINT32:
            raise ValueError(text)
        return number


class _Duration(_TextType):
    name = "duration"
    expected = "a duration such as 500ms, 10s, 2m or 1h"

    def read(self, text: str) -> Duration:
        from google.protobuf.duration_pb2 import Duration

        match = _matched(_DURATION, text)
        seconds = Decimal(match[1]) * _DURATION_UNITS[match[2] or "s"]
        if seconds > _MAX_SECONDS:
            raise ValueError(text)
        return Duration(seconds=int(seconds), nanos=int(seconds % 1 * _NANOS))


class _Time(_TextType):
    name = "time"
    expected = "a time such as 2026-11-24T08:30:00Z, or a duration before now such as 10m"

    def read(self, text: str) -> Timestamp:
        from google.protobuf.timestamp_pb2 import Timestamp

        if _DURATION.fullmatch(text):
            moment = Timestamp()
            moment.GetCurrentTime()
            moment.FromNanoseconds(moment.ToNanoseconds() - DURATION.read(text).ToNanoseconds())
            return moment
        match = _matched(_TIME, text)
        moment_text = match[1].upper().replace(" ", "T") + match[3].upper().replace("Z", "+00:00")
        seconds = int(datetime.fromisoformat(moment_text).astimezone(UTC).timestamp())
        return Timestamp(seconds=seconds, nanos=int((match[2] or "").ljust(9, "0")))


class _Port(_TextType):
    name = "port"
    expected = "a port such as 80, 8080:80 or 127.0.0.1:8080:80/udp"

    def read(self, text: str) -> pb.PortBinding:
        from botmaker.container.v1 import container_manager_pb2 as pb

        match = _matched(_PORT, text)
        host_ip = (match[1] or "").strip("[]")
        if host_ip:
            ipaddress.ip_address(host_ip)
        host_port, container_port = int(match[2] or 0), int(match[3])
        if host_port > _MAX_PORT or not 0 < container_port <= _MAX_PORT:
            raise ValueError(text)
        protocol = f"PROTOCOL_{(match[4] or 'tcp').upper()}"
        return pb.PortBinding(container_port=container_port, host_port=host_port, host_ip=host_ip, protocol=protocol)


class _Pair(_TextType):
    """Two texts with a separator between them."""

    def __init__(self, name: str, separators: str, expected: str) -> None:
        self.name = name
        self.expected = expected
        self._separators = separators

    def read(self, text: str) -> tuple[str, str]:
        # Split at the first separator: an address may contain colons.
        match = _matched(re.compile(f"([^{self._separators}]+)[{self._separators}](.*)", re.DOTALL), text)
        return match[1], match[2]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # Keep white space in the value of a variable.
        try:
            return self.read(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{value!r} is not {self.expected}", param, ctx)


SIZE = _Size()
CPUS = _Cpus()
COUNT = _Count()
RETRIES = _Retries()
DURATION = _Duration()
TIME = _Time()
PORT = _Port()
VARIABLE = _Pair("variable", "=", "a variable such as NAME=VALUE")
LABEL = _Pair("label", "=", "a label such as KEY=VALUE")
FILTER = _Pair("filter", "=", "a filter such as state=running")
HOST = _Pair("host", "=:", "a host name and an address such as db:10.0.0.5 or host.docker.internal:host-gateway")


def seconds_of(duration: Duration) -> float:
    """A duration in seconds."""
    return float(duration.seconds + duration.nanos / _NANOS)


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match


def _int64(number: Decimal) -> int:
    if number > _MAX_INT64:
        raise ValueError(number)
    return int(number)
