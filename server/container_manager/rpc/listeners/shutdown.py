"""Stops gRPC servers once the calls that matter have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc.aio
import structlog

from container_manager.rpc.interceptors.call_limit import CallPlaces

_POLL_SECONDS = 0.02
_ANSWER_SECONDS = 1.0
"""For the last answers to reach their callers."""
_END_SECONDS = 0.5
"""For gRPC to end all other calls."""

_log = structlog.get_logger(__name__)


async def stop_servers(servers: Sequence[grpc.aio.Server], places: CallPlaces, grace_seconds: float) -> bool:
    """Take no new call, wait for those that hold a place, at most ``grace_seconds``, and end all others.

    By itself, gRPC would also wait for a call whose caller does not take its answer. Returns whether all servers have
    stopped: none does while a caller does not read its connection and a write to it is blocked.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + grace_seconds
    stops = [asyncio.create_task(server.stop(grace_seconds)) for server in servers]
    while places.under_way and loop.time() < ends:  # noqa: ASYNC110 - no call is to pay for an event
        await asyncio.sleep(_POLL_SECONDS)
    rest = min(_ANSWER_SECONDS, max(0.0, ends - loop.time()))
    stops += [asyncio.create_task(server.stop(rest)) for server in servers]
    if not stops:
        return True
    done, blocked = await asyncio.wait(stops, timeout=rest + _END_SECONDS)
    for stop in done:
        stop.result()
    if blocked:
        _log.warning("callers that do not read their connections are left at the end")
    return not blocked
