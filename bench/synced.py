"""Starting a service and waiting until it knows all containers, on any engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from bench.belongings import Belongings
from bench.candidates import SERVICE
from bench.process_figures import Memory
from bench.service_process import ServiceProcess
from bench.worker import Worker

AIM_CONTAINERS = 1000
AIM_SECONDS = 3.0
_SETTLED_SECONDS = 1.0


class Synced(NamedTuple):
    """A service that is in sync, and what that took."""

    service: ServiceProcess
    seconds: float
    """From just before its process was made until a watcher was told so."""
    serving_seconds: float
    """Of these, until its "serving" line."""
    memory: Memory
    """A second later."""
    cpu_seconds: float


@contextmanager
def synced_service(belongings: Belongings, docker_host: str, name: str, bot_id: str) -> Iterator[Synced]:
    """A fresh service; ``bot_id`` is whom the watcher watches, so that no other snapshots take time."""
    with Worker(SERVICE, belongings.setting("unix:///nowhere")) as client:
        # Once before, without an answer: what is loaded at the first call is loaded now.
        client.call("warm_up")
        with ServiceProcess(belongings, docker_host, name) as service:
            synced = client.first_synced(service.target, bot_id)
            time.sleep(_SETTLED_SECONDS)
            yield Synced(
                service,
                synced - service.begun,
                service.serving - service.begun,
                service.memory(),
                service.cpu_seconds(),
            )
