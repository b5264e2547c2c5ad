"""Creates that were given up, and the removal of the containers that they make all the same.

A create without a response may still be carried out: the engine is slow or frozen, or only the connection broke. Its
container would hold the bot's name, so one background thread looks for it by the call's own label and removes it. It
looks until the engine has answered for ten minutes: a create has no time-out in the engine, and takes as long as its
storage does. Time in which the engine does not answer does not count, because the request may wait there.

    open() ──► OPEN ──finish()──► (forgotten)        the create has succeeded, or the engine has refused it
               OPEN ──give_up()──► GIVEN_UP ──thread──► REMOVING ──► (forgotten)
               OPEN, GIVEN_UP ──adopt()──► ADOPTED   a later call with the same request id has returned its container

Only containers that were never started are removed. When the service ends, so does the search; a container that the
engine makes later is then an ordinary one.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Protocol

from container_manager.backends.bot_container import LABEL_CREATE_ID, LABEL_MANAGED
from container_manager.deadline import Deadline
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerManagerError
from container_manager.model import ContainerState

SEARCH_SECONDS = 600.0
"""How long an engine that answers may take for a create that was given up."""
MAX_GIVEN_UP = 10_000
"""A bound of memory: about 5 MB."""

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
PAUSE_GROWTH = 1.5
LOOK_SECONDS = 5.0

_log = logging.getLogger(__name__)


class MadeContainers(Protocol):
    """Where containers are made. Methods raise ``EngineRejectedError`` and ``Engine…Error`` kinds."""

    def list_containers(
        self, label: str, deadline: Deadline, state: ContainerState | None = None
    ) -> list[dict[str, Any]]:
        """The containers with this label, in this state, each with its ``Id`` and its ``Labels``."""

    def remove_container(self, container_id: str, *, force: bool = True) -> None:
        """Remove a container; a running one only by force."""


class _State(Enum):
    OPEN = "open"
    GIVEN_UP = "given up"
    REMOVING = "removing"
    ADOPTED = "adopted"


@dataclass
class _Create:
    seconds_left: float
    state: _State = _State.OPEN
    answered: float | None = None
    """When the engine last answered the search; ``None``: not since it was lost, or since the create was given up."""


class GivenUpCreates:
    """Knows the creates in progress and those that were given up. Safe for any number of threads."""

    def __init__(self, engine: MadeContainers, remove_leftovers: Callable[[], None] = lambda: None) -> None:
        """``remove_leftovers``: of what else creates have made, once nothing is searched for any more."""
        self._engine = engine
        self._remove_leftovers = remove_leftovers
        self._changed = threading.Condition()
        self._creates: dict[str, _Create] = {}
        self._thread: threading.Thread | None = None
        self._hurry = False
        self._closed = False

    def open(self) -> str:
        """Begin a create; its new id, for the container's label."""
        create_id = str(uuid.uuid4())
        with self._changed:
            self._creates[create_id] = _Create(SEARCH_SECONDS)
        return create_id

    def finish(self, create_id: str) -> None:
        """End a create that has succeeded or made nothing. No effect on one that was given up."""
        with self._changed:
            create = self._creates.get(create_id)
            if create is not None and create.state in (_State.OPEN, _State.ADOPTED):
                del self._creates[create_id]

    def adopt(self, create_id: str) -> bool:
        """Keep the container of a create, for a later call that returns it. ``False``: it is being removed."""
        with self._changed:
            create = self._creates.get(create_id)
            if create is None:
                return True
            if create.state is _State.GIVEN_UP:
                del self._creates[create_id]
            elif create.state is _State.OPEN:
                create.state = _State.ADOPTED
            return create.state is not _State.REMOVING

    def is_given_up(self, create_id: str) -> bool:
        """Whether the container of this create is not to stay."""
        with self._changed:
            create = self._creates.get(create_id)
            return create is not None and create.state in (_State.GIVEN_UP, _State.REMOVING)

    def give_up(self, create_id: str) -> None:
        """Search for the container of a create without a response, and remove it."""
        with self._changed:
            create = self._creates[create_id]
            if create.state is _State.ADOPTED:
                del self._creates[create_id]
            else:
                self._hurry = True
                self._search(create)

    def undo(self, create_id: str, container_id: str) -> None:
        """Remove the create's container; if the engine does not do that now, the search will."""
        with self._changed:
            create = self._creates.get(create_id)
            if create is None or create.state is _State.REMOVING:
                return
            if create.state is _State.ADOPTED:
                del self._creates[create_id]
                return
            create.state = _State.REMOVING
        is_removed = False
        try:
            is_removed = self._remove(container_id)
        finally:
            with self._changed:
                if is_removed:
                    del self._creates[create_id]
                else:
                    self._search(create)

    def close(self) -> None:
        """End the search."""
        with self._changed:
            self._closed = True
            left = sum(create.state is not _State.ADOPTED for create in self._creates.values())
            self._changed.notify_all()
        if left:
            _log.warning("the engine may still make the containers of %d creates that were given up", left)

    def _remove(self, container_id: str) -> bool:
        try:
            # Without force: a container that somebody has started since stays.
            self._engine.remove_container(container_id, force=False)
        except EngineRejectedError as exc:
            return exc.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
        except ContainerManagerError:
            return False
        _log.info("removed container %s: its create was given up", container_id[:12])
        return True

    def _search(self, create: _Create) -> None:
        create.state = _State.GIVEN_UP
        self._changed.notify_all()
        given_up = self._given_up()
        if len(given_up) > MAX_GIVEN_UP:
            del self._creates[next(iter(given_up))]
            _log.warning("more than %d creates were given up; the oldest is not searched for any more", MAX_GIVEN_UP)
        if self._thread is None and not self._closed:
            thread = threading.Thread(target=self._run, name="creates given up", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                _log.exception("no thread for creates that were given up; the next one starts it")
            else:
                self._thread = thread

    def _given_up(self) -> dict[str, _Create]:
        return {key: create for key, create in self._creates.items() if create.state is _State.GIVEN_UP}

    def _run(self) -> None:
        pause, answers = FIRST_PAUSE_SECONDS, True
        while True:
            with self._changed:
                self._hurry = False
                wanted = self._given_up()
                if self._closed or not wanted:
                    self._thread = None
                    break
            answered, answers = answers, self._look(wanted, answered=answers)
            with self._changed:
                # What waited for an engine that comes back is done soon.
                if self._hurry or (answers and not answered):
                    pause = FIRST_PAUSE_SECONDS
                self._changed.wait_for(lambda: self._closed or self._hurry, pause)
                pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
        if not self._closed:
            self._remove_leftovers()

    def _look(self, wanted: dict[str, _Create], *, answered: bool) -> bool:
        """Remove the containers of these creates that the engine has by now. Returns whether the engine answers.

        ``answered``: it did so the last time.
        """
        try:
            # A container that was never started is in this state.
            rows = self._engine.list_containers(f"{LABEL_MANAGED}=true", Deadline(LOOK_SECONDS), ContainerState.CREATED)
            for row in rows:
                create_id = (row.get("Labels") or {}).get(LABEL_CREATE_ID)
                if create_id in wanted:
                    self.undo(create_id, row["Id"])
        except Exception as exc:  # noqa: BLE001 - the search outlasts any answer
            for create in wanted.values():
                create.answered = None
            if answered and not isinstance(exc, EngineRejectedError | ContainerManagerError):
                _log.error("unexpected error: the search for creates that were given up failed", exc_info=exc)
            return False
        now = time.monotonic()
        with self._changed:
            for create_id, create in wanted.items():
                if create.answered is not None:
                    create.seconds_left -= now - create.answered
                create.answered = now
                if create.seconds_left <= 0 and self._creates.get(create_id) is create:
                    del self._creates[create_id]
        return True
