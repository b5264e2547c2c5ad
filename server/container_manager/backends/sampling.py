"""Samples a container's resource use (``GET /containers/{id}/stats``).

Engines from before October 2023, such as 20.10, answer a one-shot request only when their own collector has its next
round, about once a second, in which it reads one container after another. Later engines answer at once
(moby/moby#46448). So a sample can take seconds without being expensive, and requests for many containers have to run
concurrently.

Memory is computed as ``docker stats`` does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.timestamps import time_ns
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, reason_of
from container_manager.model import RawSample

SAMPLE_TIMEOUT_SECONDS = 5.0
"""A container that takes longer is left out. It takes a place from others only once, so this can be long."""

_ONE_SHOT = {"stream": "false", "one-shot": "true"}
_UINT64_MAX = 2**64 - 1
# The reclaimable page cache, including that of child cgroups: in cgroup v1, in v2.
_INACTIVE_FILE_KEYS = ("total_inactive_file", "inactive_file")

_log = logging.getLogger(__name__)


async def sample(engine: AsyncEngineClient, container_id: str) -> RawSample | None:
    """The container's counters now; ``None`` if it is not running or the engine does not answer in time."""
    try:
        document = await engine.get_json(
            f"/containers/{container_id}/stats", _ONE_SHOT, timeout_seconds=SAMPLE_TIMEOUT_SECONDS
        )
    except (ContainerManagerError, EngineRejectedError) as exc:
        # At debug only: while the engine is away, every container would add a line in every interval.
        _log.debug("no sample of %s: %s", container_id[:12], reason_of(exc))
        return None
    return raw_sample(document)


def raw_sample(document: object) -> RawSample | None:
    """A sample from the engine's document; ``None`` if the container is not running or the document is malformed.

    A figure that a container does not have (no network, no memory controller) is 0.
    """
    try:
        return _raw_sample(_mapping(document))
    except (TypeError, ValueError):
        return None


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
    """An object in the document. For an empty one the engine writes null or leaves it out."""
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
