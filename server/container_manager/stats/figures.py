"""The figures of a container's resource use, from two samples of its counters.

CPU time is set against the time between two samples by the backend's own stamps, which are taken just before the
container's counters are read. ``docker stats`` sets it against ``system_cpu_usage``, the sum of the machine's
``/proc/stat``: in steps of 10 ms, without the time that a hypervisor takes, and whatever a virtual ``/proc`` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from container_manager.model import RawSample

# What is used just before a start is stamped counts as used since; over less time than this it would count for much.
_FIRST_NS = 250_000_000


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
