"""Computes a container's resource use from two samples of its counters.

The CPU percentage is the CPU time divided by the time between the samples, according to the backend's timestamps, which
are taken just before the counters are read. ``docker stats`` divides by ``system_cpu_usage`` instead, the sum of the
machine's ``/proc/stat``. That counts in steps of 10 ms, leaves out time that a hypervisor takes, and can be wrong in a
virtualised ``/proc``.
"""

from __future__ import annotations

from dataclasses import dataclass

from container_manager.model import RawSample

# CPU time from just before the start's timestamp counts as used since the start. Over a shorter time than this it would
# distort the percentage.
_FIRST_NS = 250_000_000


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """The resource use of one running container, as ``ContainerStats`` of the contract describes it."""

    time_ns: int
    cpu_percent: float
    """Of one core; never negative."""
    memory_usage_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    pids: int


def stats_between(before: RawSample, now: RawSample, start_ns: int | None = None) -> ContainerStats | None:
    """The resource use at ``now``, with the CPU time since ``before``, or since a restart in between.

    ``start_ns``: when the container was last started, if known: its CPU counter restarts at 0 then.
    ``None`` if it cannot be computed: the counter has gone back and the time of the restart is unknown; no time has
    passed (the same sample twice, or a clock that was set back); or too little time has passed since a restart.
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
        # More than all cores: the clock was set back a little, or the counter was read a moment after its timestamp.
        cpu_percent=min(percent, 100.0 * now.cpus) if now.cpus else percent,
        memory_usage_bytes=now.memory_usage_bytes,
        memory_limit_bytes=now.memory_limit_bytes,
        network_rx_bytes=now.network_rx_bytes,
        network_tx_bytes=now.network_tx_bytes,
        pids=now.pids,
    )
