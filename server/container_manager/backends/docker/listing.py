"""The statuses of all managed containers."""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from container_manager.backends.bot_container import LABEL_MANAGED
from container_manager.backends.docker.status import status_from_row
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError, reason_of
from container_manager.model import ContainerState, ContainerStatus

# How long one container that the engine cannot inspect (moby/moby#46782) may delay the list. When there are many, each
# gets less time.
INSPECT_TIMEOUT_SECONDS = 2.0
_SHORT_INSPECT_TIMEOUT_SECONDS = 0.2
_PATIENT_INSPECTIONS = 16
_INSPECTIONS_AT_ONCE = 8

_log = logging.getLogger(__name__)


class ContainerLister:
    """Lists containers: one filtered call for the rows, then an inspection of each, a few in parallel."""

    def __init__(self, engine: EngineClient, reader: StatusReader) -> None:
        self._engine = engine
        self._reader = reader
        self._pool = ThreadPoolExecutor(_INSPECTIONS_AT_ONCE, thread_name_prefix="inspect")

    def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def list(self, states: Collection[ContainerState], deadline: Deadline) -> list[ContainerStatus]:
        """Every container labelled as managed, in one of ``states`` (none given: any), by create time, then id."""
        try:
            rows = self._engine.list_containers(f"{LABEL_MANAGED}=true", deadline)
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc
        wedged: set[str] = set()
        # Copies of the caller's context, so that log lines and spans belong to its call; a context runs in one thread.
        contexts = [copy_context() for _ in rows]
        statuses = self._pool.map(lambda context, row: context.run(self._status, row, deadline, wedged), contexts, rows)
        found = [status for status in statuses if status is not None and (not states or status.state in states)]
        return sorted(found, key=lambda status: (status.create_time_ns or 0, status.container_id))

    def _status(self, row: dict[str, Any], deadline: Deadline, wedged: set[str]) -> ContainerStatus | None:
        patient = len(wedged) < _PATIENT_INSPECTIONS
        seconds = INSPECT_TIMEOUT_SECONDS if patient else _SHORT_INSPECT_TIMEOUT_SECONDS
        try:
            patience = Deadline(deadline.at_most(seconds))
            document = self._engine.inspect_container(row["Id"], patience)
            # None: removed since the list call.
            return None if document is None else self._reader.read(self._engine, document, patience)
        except (EngineRejectedError, ContainerManagerError, LookupError, TypeError, ValueError) as exc:
            # If the deadline has passed, the container is not to blame: fail the list.
            deadline.check()
            wedged.add(row["Id"])
            _log.warning("container %s cannot be inspected, its list row is shown: %s", row["Id"][:12], reason_of(exc))
            return status_from_row(row)
