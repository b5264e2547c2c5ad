"""Threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet

# Default names, by their functions: grpc's thread of each channel, and those of the tests' HTTP servers.
_NOT_THE_SERVICES = ("(channel_spin)", "(process_request_thread)")


def started_since(before: AbstractSet[threading.Thread]) -> list[str]:
    """The names of the threads that are not among ``before`` and may be the service's."""
    return sorted(
        each.name for each in set(threading.enumerate()) - before if not each.name.endswith(_NOT_THE_SERVICES)
    )
