"""Subnets for networks of bots' own, cut from the pool that the operator gives.

The engine's own pools are for about 30 networks. It picks from them by itself, and checks then that this machine does
not use the addresses. It does not check that for a subnet that a request names, so this module does.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from pathlib import Path

from container_manager.config import SUBNET_BITS
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.networks import NetworkClient, subnets
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import CapacityExceededError

_ROUTES = Path("/proc/net/route")
_REFUSED_SECONDS = 60.0


class Subnets:
    """The subnets of one pool. Safe for any number of threads."""

    def __init__(self, engine: NetworkClient, pool: IPv4Network, *, local: bool) -> None:
        """``local``: the engine is on this machine, so that this machine's routes concern it."""
        self._engine = engine
        self._pool = pool
        self._local = local
        self._lock = threading.Lock()
        self._reserved: set[IPv4Network] = set()
        self._refused: dict[IPv4Network, float] = {}

    def refused(self, subnet: IPv4Network) -> None:
        """Leave out a subnet for a while that the engine has refused."""
        with self._lock:
            self._refused[subnet] = time.monotonic() + _REFUSED_SECONDS

    @contextmanager
    def free(self, bot_id: str, deadline: Deadline) -> Iterator[IPv4Network]:
        """A subnet that no network and no route has, and no other caller of this method meanwhile.

        Raises :class:`CapacityExceededError` when there is none.
        """
        try:
            taken = self.taken(deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        with self._lock:
            now = time.monotonic()
            self._refused = {subnet: ends for subnet, ends in self._refused.items() if ends > now}
            subnet = next(free_subnets(self._pool, [*taken, *self._reserved, *self._refused]), None)
            if subnet is None:
                raise CapacityExceededError(
                    f"no subnet of {self._pool} is left for a network of the bot's own: networks of the engine and "
                    "routes of this machine have them all; remove what is not needed, or give a larger or another "
                    "range with --bot-network-pool",
                    bot_id=bot_id,
                )
            self._reserved.add(subnet)
        try:
            yield subnet
        finally:
            with self._lock:
                self._reserved.discard(subnet)

    def taken(self, deadline: Deadline) -> list[IPv4Network]:
        """What the engine's networks and this machine's routes have. Raises :class:`EngineRejectedError`."""
        networks = self._engine.list_networks(deadline)
        return [*chain.from_iterable(map(subnets, networks)), *(local_routes() if self._local else ())]


def free_subnets(pool: IPv4Network, taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    """The subnets of the pool that overlap none of these, in their order."""
    ends = sorted((int(each.network_address), int(each.broadcast_address)) for each in taken)
    size = 1 << (32 - SUBNET_BITS)
    start, last = int(pool.network_address), int(pool.broadcast_address)
    for first, end in [*ends, (last + 1, last + 1)]:
        while start + size <= min(first, last + 1):
            yield IPv4Network((start, SUBNET_BITS))
            start += size
        if end >= start:
            start = (end // size + 1) * size


def local_routes() -> list[IPv4Network]:
    """The networks that this machine has a route to, the default route left out."""
    routes = []
    with suppress(OSError):
        for line in _ROUTES.read_text(encoding="ascii").splitlines()[1:]:
            # Bytes in the network's order, shown as a number of this machine's.
            columns = [int(line.split()[at], 16).to_bytes(4, sys.byteorder) for at in (1, 7)]
            address, mask = map(IPv4Address, columns)
            if int(mask):
                routes.append(IPv4Network((int(address), int(mask).bit_count()), strict=False))
    return routes
