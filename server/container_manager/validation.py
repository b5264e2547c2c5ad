"""Rules for requests. Nothing here calls the engine. An error lists every violation of a request."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol

from container_manager.errors import FieldViolation, InvalidBotIdError, InvalidConfigError
from container_manager.model import (
    DEFAULT_HOST_IP,
    TYPED_VARIABLES,
    VARIABLE_BOT_ID,
    ContainerConfig,
    HealthCheck,
    PortBinding,
    ResourceLimits,
)
from container_manager.model import Protocol as TransportProtocol

RESERVED_ENVIRONMENT = (VARIABLE_BOT_ID, *TYPED_VARIABLES.values())
MAX_GRACE_SECONDS = 86_400
MAX_ITEMS = 1_000
MAX_BOT_IDS = 10_000
MAX_VIOLATIONS = 8
MAX_LABELS = 16
MAX_LABEL_KEY_BYTES = 63
MAX_LABEL_VALUE_BYTES = 128
OWN_LABEL_PREFIX = "botmaker."
"""The service's own labels begin with it."""
# The engine takes no shorter ones (moby, MinimumDuration), and none above 292 years.
MIN_HEALTH_SECONDS = 0.001
MAX_HEALTH_SECONDS = 86_400
# One "NAME=value" and one argument may be 128 KiB long, the closing NUL included (Linux, MAX_ARG_STRLEN);
# a container with a longer one could never start.
MAX_STRING_BYTES = 128 * 1024 - 1
# All strings share a quarter of the usual 8 MiB stack (execve(2)). Half of that leaves room for the image's own.
MAX_STRINGS_BYTES = 1024 * 1024

_BOT_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{0,128}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The engine's rule for names (moby, daemon/names).
_NETWORK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
# RFC 1123, and underscores, which Docker's users use. Each character matches in one place only: a pattern that can
# match the same text in two ways takes exponential time, and blocks every other caller.
_HOST_LABEL = "[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")
_MAX_HOST_NAME = 253
_HOST_NAME_LABEL = re.compile("[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_bot_id(value: str) -> bool:
    """Whether ``value`` is a UUID in canonical form: lower case, 8-4-4-4-12."""
    return _BOT_ID.fullmatch(value) is not None


def check_bot_id(bot_id: str) -> None:
    """Raise :class:`InvalidBotIdError` unless ``bot_id`` is a canonical UUID."""
    if not is_bot_id(bot_id):
        given = ascii(bot_id if len(bot_id) <= 64 else bot_id[:64] + "…")
        raise InvalidBotIdError(
            FieldViolation("bot_id", f"must be a UUID in canonical lower-case 8-4-4-4-12 form, not {given}")
        )


def check_bot_ids(bot_ids: Sequence[str]) -> None:
    """Raise :class:`InvalidBotIdError` unless all of them are canonical UUIDs, :class:`InvalidConfigError` for many."""
    if len(bot_ids) > MAX_BOT_IDS:
        raise InvalidConfigError(FieldViolation("bot_ids", f"has {len(bot_ids)} entries, and may have {MAX_BOT_IDS}"))
    if wrong := [index for index, bot_id in enumerate(bot_ids) if not is_bot_id(bot_id)]:
        text = "must be a UUID in canonical lower-case 8-4-4-4-12 form"
        raise InvalidBotIdError(*(FieldViolation(f"bot_ids[{index}]", text) for index in wrong[:MAX_VIOLATIONS]))


def check_grace_seconds(grace_seconds: float) -> int:
    """The grace period in whole seconds, rounded up so that it is never shorter than requested."""
    if not 0 <= grace_seconds <= MAX_GRACE_SECONDS:
        raise InvalidConfigError(FieldViolation("grace_period", f"must be 0 to {MAX_GRACE_SECONDS} seconds"))
    return math.ceil(grace_seconds)


class ConfigCounts(Protocol):
    """The repeated fields of a config: the domain's, or a message's that has not been decoded yet."""

    @property
    def environment(self) -> Sized: ...
    @property
    def ports(self) -> Sized: ...
    @property
    def extra_hosts(self) -> Sized: ...
    @property
    def command(self) -> Sized: ...
    @property
    def labels(self) -> Sized: ...
    @property
    def health_check(self) -> Any: ...


def check_config_counts(config: ConfigCounts) -> None:
    """Raise :class:`InvalidConfigError` when a field of a config has too many entries."""
    check_counts(
        {
            "config.environment": len(config.environment),
            "config.ports": len(config.ports),
            "config.extra_hosts": len(config.extra_hosts),
            "config.command": len(config.command),
            "config.labels": len(config.labels),
            "config.health_check.command": len(config.health_check.command) if config.health_check else 0,
        }
    )


def check_create(request_id: str, config: ContainerConfig) -> None:
    """Raise :class:`InvalidConfigError` with every other violation of a create request but those of its image."""
    violations = [*_request_id(request_id), *_config(config)]
    if violations:
        raise InvalidConfigError(*violations)


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise :class:`InvalidConfigError` for fields with too many entries. Call it before decoding them."""
    violations = [
        FieldViolation(field, f"must have at most {MAX_ITEMS} entries")
        for field, count in counts.items()
        if count > MAX_ITEMS
    ]
    if violations:
        raise InvalidConfigError(*violations)


def check_request_id(request_id: str) -> None:
    """Raise :class:`InvalidConfigError` unless a call may have this request id. It may be empty."""
    if violations := [*_request_id(request_id)]:
        raise InvalidConfigError(*violations)


def _request_id(request_id: str) -> Iterator[FieldViolation]:
    if not _REQUEST_ID.fullmatch(request_id):
        yield FieldViolation("request_id", "must be at most 128 printable ASCII characters without spaces")


def _config(config: ContainerConfig) -> Iterator[FieldViolation]:
    typed = {name: f"{variable}={getattr(config, name)}" for name, variable in TYPED_VARIABLES.items()}
    for name, text in typed.items():
        yield from _string(f"config.{name}", text)
    yield from _environment(config.environment)
    further = [f"{name}={value}" for name, value in config.environment.items()]
    larger = "config.command" if _sum(config.command) > _sum(further) else "config.environment"
    yield from _total(larger, [*typed.values(), *further, *config.command], ", command and all variables together")
    yield from _ports(config.ports)
    yield from _network(config)
    yield from _extra_hosts(config.extra_hosts)
    yield from _command("config.command", config.command)
    yield from _resources(config.resources)
    if config.health_check is not None:
        yield from _health_check(config.health_check)
    if config.hostname and not _HOST_NAME_LABEL.fullmatch(config.hostname):
        yield FieldViolation(
            "config.hostname",
            "must be one RFC 1123 label: up to 63 letters, digits and hyphens, no hyphen at either end",
        )
    yield from _labels(config.labels)


def _string(field: str, value: str) -> Iterator[FieldViolation]:
    if "\0" in value:
        yield FieldViolation(field, "must not contain NUL")
    elif _size(value) > MAX_STRING_BYTES:
        yield FieldViolation(field, f"must be at most {MAX_STRING_BYTES} bytes")


def _size(value: str) -> int:
    return len(value.encode("utf-8", "surrogatepass"))


def _sum(strings: Iterable[str]) -> int:
    return sum(_size(string) + 1 for string in strings)


def _total(field: str, strings: Iterable[str], of: str = "") -> Iterator[FieldViolation]:
    if _sum(strings) > MAX_STRINGS_BYTES:
        yield FieldViolation(field, f"must be at most {MAX_STRINGS_BYTES} bytes in all{of}")


def _environment(environment: Mapping[str, str]) -> Iterator[FieldViolation]:
    field = "config.environment"
    for name, value in environment.items():
        shown = ascii(name[:64])
        if not _ENVIRONMENT_NAME.fullmatch(name):
            yield FieldViolation(field, f"the name {shown} does not match [A-Za-z_][A-Za-z0-9_]*")
        elif name in RESERVED_ENVIRONMENT:
            yield FieldViolation(field, f"the name {shown} is set from a field of its own")
        else:
            yield from _string(f"{field}[{shown}]", f"{name}={value}")


def _ports(ports: Sequence[PortBinding]) -> Iterator[FieldViolation]:
    bound: dict[tuple[int, TransportProtocol], list[_Address]] = {}
    for index, port in enumerate(ports):
        field = f"config.ports[{index}]"
        if not 1 <= port.container_port <= 65_535:
            yield FieldViolation(f"{field}.container_port", f"must be 1 to 65535, not {port.container_port}")
        if not 0 <= port.host_port <= 65_535:
            yield FieldViolation(f"{field}.host_port", f"must be 0 to 65535, not {port.host_port}")
        address = _address(port.host_ip or DEFAULT_HOST_IP)
        if address is None:
            yield FieldViolation(f"{field}.host_ip", "must be an IP address")
        elif port.host_port:
            others = bound.setdefault((port.host_port, port.protocol), [])
            if any(_overlap(address, other) for other in others):
                yield FieldViolation(f"{field}.host_port", f"binds {port.host_port} of {address} a second time")
            others.append(address)


def _overlap(one: _Address, other: _Address) -> bool:
    """Whether one socket cannot be bound beside the other: the unspecified address includes all of its version."""
    return one == other or (one.version == other.version and (one.is_unspecified or other.is_unspecified))


def _network(config: ContainerConfig) -> Iterator[FieldViolation]:
    network = config.network
    if network == "host" or network.startswith("container:"):
        yield FieldViolation("config.network", "must not share the host's or another container's network")
    elif network and not _NETWORK_NAME.fullmatch(network):
        yield FieldViolation("config.network", "must be the name of a network: [a-zA-Z0-9][a-zA-Z0-9_.-]*")
    elif network == "none" and config.ports:
        yield FieldViolation("config.ports", 'cannot be published from the network "none"')


def _extra_hosts(extra_hosts: Mapping[str, str]) -> Iterator[FieldViolation]:
    for name, address in extra_hosts.items():
        shown = ascii(name[:64])
        if len(name) > _MAX_HOST_NAME or not _HOST_NAME.fullmatch(name):
            yield FieldViolation("config.extra_hosts", f"{shown} is not a host name")
        elif address != "host-gateway" and _address(address) is None:
            yield FieldViolation(
                "config.extra_hosts", f'the address of {shown} must be an IP address or "host-gateway"'
            )


def _command(field: str, command: Sequence[str]) -> Iterator[FieldViolation]:
    if command and not command[0]:
        yield FieldViolation(f"{field}[0]", "must not be empty")
    for index, argument in enumerate(command):
        yield from _string(f"{field}[{index}]", argument)


def _health_check(check: HealthCheck) -> Iterator[FieldViolation]:
    field = "config.health_check"
    if not check.command:
        yield FieldViolation(f"{field}.command", "is required")
    yield from _total(f"{field}.command", check.command)
    yield from _command(f"{field}.command", check.command)
    for name in ("interval", "timeout", "start_period"):
        seconds: float = getattr(check, f"{name}_seconds")
        if seconds and not MIN_HEALTH_SECONDS <= seconds <= MAX_HEALTH_SECONDS:
            yield FieldViolation(
                f"{field}.{name}", f"must be 0, or {MIN_HEALTH_SECONDS} to {MAX_HEALTH_SECONDS} seconds"
            )


def _labels(labels: Mapping[str, str]) -> Iterator[FieldViolation]:
    field = "config.labels"
    if len(labels) > MAX_LABELS:
        yield FieldViolation(field, f"must have at most {MAX_LABELS} entries")
        return
    for key, value in labels.items():
        shown = ascii(key[:64])
        if not 1 <= _size(key) <= MAX_LABEL_KEY_BYTES:
            yield FieldViolation(field, f"the key {shown} must have 1 to {MAX_LABEL_KEY_BYTES} bytes")
        elif key.startswith(OWN_LABEL_PREFIX):
            yield FieldViolation(field, f"the key {shown} must not begin with {OWN_LABEL_PREFIX}")
        elif "\0" in key:
            yield FieldViolation(field, f"the key {shown} must not contain NUL")
        if _size(value) > MAX_LABEL_VALUE_BYTES:
            yield FieldViolation(f"{field}[{shown}]", f"must have at most {MAX_LABEL_VALUE_BYTES} bytes")
        elif "\0" in value:
            yield FieldViolation(f"{field}[{shown}]", "must not contain NUL")


def _resources(resources: ResourceLimits) -> Iterator[FieldViolation]:
    for name in ("memory_bytes", "nano_cpus", "pids_limit"):
        if getattr(resources, name) < 0:
            yield FieldViolation(f"config.resources.{name}", "must not be negative")


def _address(value: str) -> _Address | None:
    """The IP address, an IPv4 one also where it is mapped into IPv6; ``None`` for something else."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return None if address.scope_id else address.ipv4_mapped or address
