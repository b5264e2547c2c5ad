"""Noticing that a gRPC server has ended by itself, which a service must not survive.

With grpc.aio 1.84 and 1.85 one request does that: these decode a request's path in the loop
that takes all requests, before any interceptor and so before any token is asked for, and a path that is not UTF-8 ends
that loop. The server listens no more, and the calls under way lose what keeps their memory in place, so that nothing of
that process can be relied on. The server's extra leaves these versions out; this is for the next one like them. A
process that has ended is started again by whoever looks after it; one that hangs on, deaf, is not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

import grpc.aio
import structlog

EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h
_WATCH_SECONDS = 0.2

_log = structlog.get_logger(__name__)


async def exit_with(servers: Sequence[grpc.aio.Server]) -> NoReturn:
    """Wait until one of the servers, which may become more, has ended other than by :meth:`stop`; end the process."""
    while True:
        for server in tuple(servers):
            try:
                # gRPC tells of it only where there is a time-out.
                await server.wait_for_termination(_WATCH_SECONDS)
            except Exception as exc:  # noqa: BLE001 - whatever it was, there is no listener
                # By its name alone: it holds what a caller sent.
                cause = type(exc).__name__
                _log.critical("a request has ended a listener, and with it the service; start it again", cause=cause)
                os._exit(EXIT_STATUS)
