"""Noticing that a gRPC server has ended by itself, which a service must not survive.

It does, by one request, with grpc.aio 1.84 and 1.85: these decode a request's path in the loop that takes all requests,
before any interceptor and so before any token is asked for, and a path that is not UTF-8 ends that loop. The server
listens no more, and the calls under way lose what keeps their memory in place, so that nothing of that process can be
relied on. One that has ended is started again by whoever looks after it; one that hangs on, deaf, is not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import NoReturn

import grpc.aio
import structlog

EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h
_WATCH_SECONDS = 0.1

_log = structlog.get_logger(__name__)


async def exit_with(servers: Sequence[grpc.aio.Server]) -> NoReturn:
    """Wait until one of the servers has ended other than by :meth:`stop`, and end the process then."""
    waits = [asyncio.create_task(_cause_of_end(server)) for server in servers]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    # By its name alone: it holds what a caller sent.
    cause = type(done.pop().result()).__name__
    _log.critical("a request has ended a listener, and with it the service; start it again", cause=cause)
    os._exit(EXIT_STATUS)


async def _cause_of_end(server: grpc.aio.Server) -> Exception | None:
    try:
        # gRPC tells of it only where there is a time-out.
        while await server.wait_for_termination(_WATCH_SECONDS):
            pass
    except Exception as exc:  # noqa: BLE001 - whatever it was, there is no listener
        return exc
    return None
