"""The engine's documents of a container's resource use (``GET /containers/{id}/stats``) read as figures.

CPU time is set against the time between two samples by the engine's own stamps, which are taken just before the
container's counters are read. ``docker stats`` sets it against ``system_cpu_usage``, the sum of the machine's
``/proc/stat``: in steps of 10 ms, without the time that a hypervisor takes, and whatever a virtual ``/proc`` says.
Memory is what ``docker stats`` shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from container_manager.engine.status import time_ns

# What is used just before a start is stamped counts as used since; over less time than this it would count for much.
_FIRST_NS = 250_000_000
_UINT64_MAX = 2**64 - 1
# The caches that may be dropped, with those of all cgroups below: in cgroup v1, in v2.
_INACTIVE_FILE_KEYS = ("total_inactive_file", "inactive_file")


@dataclass(frozen=True, slots=True)
class RawSample:
    """The engine's counters of one running container at one moment."""

    time_ns: int
    """When they were read, in nanoseconds since the epoch, by the engine's clock."""
    cpu_ns: int
    """CPU time on all cores since the container started."""
    cpus: int
    """The machine's cores; 0: the engine does not say."""
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """The resource use of one running container, as ``WatchStatsResponse`` describes it."""

    time_ns: int
    cpu_percent: float
    """Of one core; never negative."""
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int


def raw_sample(document: object) -> RawSample | None:
    """A sample from the engine's document; ``None`` for a container that does not run, or what is no such document.

    What a container does not have (a network, a memory controller) is 0.
    """
    try:
        return _raw_sample(_mapping(document))
    except (TypeError, ValueError):
        return None


def stats_between(before: RawSample, now: RawSample, start_ns: int | None = None) -> ContainerStats | None:
    """The figures of ``now``, with the CPU time since ``before``, or since the container was restarted in between.

    ``start_ns``: when it was started last, if that is known, as its counter then began anew.
    ``None`` when there is none to tell: the counter has gone back and nobody knows since when, or no time has passed,
    as with one sample twice or a clock that was set back, or too little since a restart.
    """
    restarted = start_ns is not None and before.time_ns < start_ns <= now.time_ns
    since_ns, had_ns = (start_ns, 0) if start_ns is not None and restarted else (before.time_ns, before.cpu_ns)
    passed_ns = now.time_ns - since_ns
    used_ns = now.cpu_ns - had_ns
    if passed_ns <= 0 or used_ns < 0 or (restarted and passed_ns < _FIRST_NS):
        return None
    percent = 100 * used_ns / passed_ns
    return ContainerStats(
        time_ns=now.time_ns,
        # More than all cores is a clock that was set back a little, or the moments between stamp and counter.
        cpu_percent=min(percent, 100.0 * now.cpus) if now.cpus else percent,
        memory_usage_bytes=now.memory_usage_bytes,
        memory_limit_bytes=now.memory_limit_bytes,
        network_rx_bytes=now.network_rx_bytes,
        network_tx_bytes=now.network_tx_bytes,
        pids=now.pids,
    )


def _raw_sample(document: Mapping[str, Any]) -> RawSample | None:
    read = document.get("read")
    read_ns = time_ns(read) if isinstance(read, str) else None
    cpu = _mapping(document.get("cpu_stats"))
    cpu_usage = _mapping(cpu.get("cpu_usage"))
    if read_ns is None or "total_usage" not in cpu_usage:
        return None
    memory = _mapping(document.get("memory_stats"))
    networks = [_mapping(network) for network in _mapping(document.get("networks")).values()]
    return RawSample(
        time_ns=read_ns,
        cpu_ns=_count(cpu_usage, "total_usage"),
        cpus=_count(cpu, "online_cpus"),
        memory_usage_bytes=_memory_usage(memory),
        memory_limit_bytes=_count(memory, "limit"),
        network_rx_bytes=sum(_count(network, "rx_bytes") for network in networks),
        network_tx_bytes=sum(_count(network, "tx_bytes") for network in networks),
        pids=_count(_mapping(document.get("pids_stats")), "current"),
    )


def _memory_usage(memory: Mapping[str, Any]) -> int:
    usage = _count(memory, "usage")
    details = _mapping(memory.get("stats"))
    for key in _INACTIVE_FILE_KEYS:
        if key in details and (cache := _count(details, key)) < usage:
            return usage - cache
    return usage


def _mapping(value: object) -> Mapping[str, Any]:
    """An object of the document; the engine writes null, or nothing, for an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"not an object: {value!r}")
    return value


def _count(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if value is None:
        return 0
    if type(value) is not int:  # bool is one, too
        raise TypeError(f"{key} is not an integer: {value!r}")
    if not 0 <= value <= _UINT64_MAX:
        raise ValueError(f"{key} is out of range: {value}")
    return value
