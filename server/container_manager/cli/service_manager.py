"""Tells systemd what the service does, with the protocol of sd_notify(3): ready, alive, stopping.

The event loop itself says that it is alive, so that systemd restarts a service whose loop is stuck.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """The service manager that started this process, if it wants to hear of it. Without one, nothing happens."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with "@" is in the abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._watchdog_seconds = int(microseconds) / 1e6 if own and microseconds.isdecimal() else 0.0

    def ready(self) -> None:
        """The service answers. From now on, the running event loop reports that it is alive."""
        self._send("READY=1")
        if self._watchdog_seconds:
            self._stay_alive()

    def stopping(self) -> None:
        """The service has begun to shut down."""
        self._send("STOPPING=1")

    def _stay_alive(self) -> None:
        self._send("WATCHDOG=1")
        # sd_watchdog_enabled(3) advises half of the time.
        asyncio.get_running_loop().call_later(self._watchdog_seconds / 2, self._stay_alive)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # The service serves, whether its manager hears of it or not.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            sender.sendto(state.encode(), self._address)
