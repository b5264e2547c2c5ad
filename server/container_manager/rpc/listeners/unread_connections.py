"""Closes connections whose callers do not read them.

gRPC keeps much of a call that has ended until the write that is under way on its connection ends, and by itself closes
no connection before that. TCP gives up in time, a unix socket never does. gRPC does not show its sockets, so this looks
for them among the descriptors of the process.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import structlog

from container_manager.addresses import Address, TcpAddress
from container_manager.rpc.grpc_workarounds import end_calls

LOOK_SECONDS = 0.1
"""Between two looks. Each can show that a caller has read something since the one before.

gRPC's clients always read their connection: where they take no answers, HTTP/2's windows keep the service from sending.
"""
PATIENCE_SECONDS = 2.0
WATCH_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class UnreadConnections:
    """The connections of one server's listeners. For its event loop."""

    def __init__(self) -> None:
        self._listening: set[str | int] = set()
        self._has_ended_calls = asyncio.Event()
        # By the number of its socket: what is unread, and the loop's time since when.
        self._unread: dict[int, tuple[int, float]] = {}

    def listens_on(self, address: Address, port: int) -> None:
        """Connections to this address are the server's."""
        self._listening.add(port if isinstance(address, TcpAddress) else str(address.path))

    def end_calls(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """End the calls that run in these tasks, whose answers have not been taken, and then their connections.

        That is, those whose callers read nothing for :data:`PATIENCE_SECONDS` meanwhile.
        """
        end_calls(tasks)
        self._has_ended_calls.set()

    async def run(self) -> None:
        """Look at the connections for :data:`WATCH_SECONDS` each time that calls have been ended."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_ended_calls.wait()
            self._has_ended_calls.clear()
            ends = loop.time() + WATCH_SECONDS
            while loop.time() < ends:
                self._look(loop.time())
                await asyncio.sleep(LOOK_SECONDS)

    def _look(self, now: float) -> None:
        before, self._unread, closed = self._unread, {}, 0
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - there may be thousands
            # Not a socket, or closed meanwhile.
            with suppress(OSError):
                if not _unread_bytes(int(name)):
                    continue
                # A copy of the descriptor: gRPC may close its own at any time, and the number may be used again. What
                # it is does not show yet, and of all families this one has the longest names.
                with socket.fromfd(int(name), socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    if _local(connection.getsockname()) not in self._listening:
                        continue
                    number, unread = os.fstat(connection.fileno()).st_ino, _unread_bytes(connection.fileno())
                    known, since = before.get(number, (unread, now))
                    self._unread[number] = unread, since if unread == known else now
                    if unread and unread == known and now - since >= PATIENCE_SECONDS:
                        connection.shutdown(socket.SHUT_RDWR)
                        closed += 1
        if closed:
            _log.warning("closed connections that their callers do not read", connections=closed)


def _unread_bytes(descriptor: int) -> int:
    """What the caller has not read (unix), or its machine has not received (TCP)."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def _local(name: Any) -> Any:
    """The path, or the port, of a socket's name."""
    return name[1] if isinstance(name, tuple) else name
