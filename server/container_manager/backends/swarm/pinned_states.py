"""Bots' states in volumes of single nodes, with copies beside this service: a :class:`States`.

A copy is a directory of the service's own state root. To become the bot's state, it is written into the volume by the
engine of the bot's node:

    exchange(put, keep)   copy the volume to `keep`; mark `put`; remove the volume; write `put` into a new one;
                          discard `put`, and then the mark

`keep` is complete before the volume is removed, unless it cannot be made and the caller does not insist, and `put` is
there until the volume is complete. While the mark and the copy that it names are both there, what is in the volume is
no state. So a call that was killed at any moment is completed by the same call.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from container_manager.backend_maintenance import REMAKEABLE, Copied, Progress
from container_manager.backends.swarm.bot_services import BotServices
from container_manager.backends.swarm.placement import node_for_new_state
from container_manager.backends.swarm.service_spec import BACKEND
from container_manager.backends.swarm.state_nodes import StateNodes, node_with_state
from container_manager.backends.swarm.state_volumes import StateVolume, StateVolumes
from container_manager.backends.swarm.status import is_down, node_name, pinned_node
from container_manager.bot_directories import BotUser
from container_manager.deadline import Deadline
from container_manager.engine.swarm import SwarmClient
from container_manager.errors import (
    CapacityExceededError,
    InvalidStateError,
    NodeUnavailableError,
    NotSupportedByBackendError,
    StateTooLargeError,
    StateUnavailableError,
    reason_of,
)
from container_manager.operation import carry_out
from container_manager.provisioning.host_states import HostStates

Json = dict[str, Any]

_log = logging.getLogger(__name__)

_MARK = f"{REMAKEABLE}written-"
"""How the name of a mark begins; that of the copy follows."""


class PinnedStates:
    """Of one swarm, for any number of threads.

    What needs the volume raises :class:`NotSupportedByBackendError` for a bot on a node whose engine is not named,
    :class:`NodeUnavailableError` and ``Engine…Error`` kinds.
    """

    def __init__(self, engine: SwarmClient, nodes: StateNodes, copies: HostStates, volumes: StateVolumes) -> None:
        """``engine``: a manager's. ``copies``: of which only the copies beside states are used."""
        self._services = BotServices(engine)
        self._nodes = nodes
        self._copies = copies
        self._volumes = volumes

    def owner(self) -> BotUser:
        return self._copies.owner()

    def has_state(self, bot_id: str) -> bool:
        node = self._node(bot_id)
        if node is None or not (self._volumes.reaches(node) or node_with_state(bot_id, [node])):
            # It was never started.
            return False
        with self._volume(bot_id, node) as volume:
            return volume.exists() and not self._is_partly_written(bot_id)

    def copy_aside(
        self, bot_id: str, name: str, *, without: Collection[str] = (), on_progress: Progress = lambda _: None
    ) -> Copied:
        node = self._node(bot_id)
        if node is None:
            raise StateUnavailableError("no node has a state of the bot", bot_id=bot_id)
        with self._volume(bot_id, node) as volume:
            if not volume.exists():
                raise StateUnavailableError(f"the volume of the bot on node {node_name(node)} is gone", bot_id=bot_id)
            # As in HostStates: the bot is down meanwhile.
            with self._copies.new_copy(bot_id, name, syncs=not name.startswith(REMAKEABLE)) as copy:
                return volume.read(copy, without=without, on_progress=on_progress)

    @contextmanager
    def new_aside(self, bot_id: str, name: str) -> Iterator[int]:
        """As the interface says. The bot gets a node on which the copy can become its state, if it has none."""
        node = self._node(bot_id) or self._node_for_new_state(bot_id)
        with self._volume(bot_id, node):
            # Nothing is unpacked that could not be put there.
            pass
        with self._copies.new_aside(bot_id, name) as directory:
            yield directory
            carry_out(self._nodes.keep(bot_id, node["ID"]))

    def opened_aside(self, bot_id: str, name: str) -> AbstractContextManager[int]:
        return self._copies.opened_aside(bot_id, name)

    def has_aside(self, bot_id: str, name: str) -> bool:
        return self._copies.has_aside(bot_id, name)

    def exchange(self, bot_id: str, *, put: str, keep: str, insists: bool = True) -> None:
        copies = self._copies.asides(bot_id)
        if put in copies:
            node = self._node(bot_id) or self._node_for_new_state(bot_id)
            with self._volume(bot_id, node) as volume:
                carry_out(self._nodes.keep(bot_id, node["ID"]))
                if keep not in copies and volume.exists() and not self._is_partly_written(bot_id):
                    try:
                        with self._copies.new_copy(bot_id, keep) as copy:
                            volume.read(copy, without=(), on_progress=lambda _: None)
                    except (CapacityExceededError, StateTooLargeError, StateUnavailableError) as exc:
                        if insists:
                            raise
                        _log.warning("the state that bot %s leaves could not be kept: %s", bot_id, reason_of(exc))
                volume.release()
                self._mark(bot_id, put)
                volume.remove()
                with self._copies.opened_aside(bot_id, put) as copy:
                    volume.write(copy)
        # As soon as it has no name, the volume is the state.
        self.discard(bot_id, put)
        self.discard(bot_id, _MARK + put)

    def discard(self, bot_id: str, name: str) -> None:
        self._copies.discard(bot_id, name)

    def set_leftovers_aside(self, owner: str, busy: Collection[str]) -> None:
        self._copies.set_leftovers_aside(owner, busy)

    def _mark(self, bot_id: str, put: str) -> None:
        """Write down that the volume is no state until the copy ``put`` is gone, and forget earlier marks."""
        marks = [name for name in self._copies.asides(bot_id) if name.startswith(_MARK)]
        if _MARK + put not in marks:
            with self._copies.new_aside(bot_id, _MARK + put):
                pass
        for name in marks:
            if name != _MARK + put:
                self.discard(bot_id, name)

    def _is_partly_written(self, bot_id: str) -> bool:
        copies = self._copies.asides(bot_id)
        return any(_MARK + name in copies for name in copies)

    def _node(self, bot_id: str) -> Json | None:
        """The node that the bot's container is pinned to, or else the one that has its state; ``None``: there is none.

        Raises :class:`InvalidStateError` for a container that is pinned to none, or to one that has left the swarm.
        """
        nodes = self._nodes.all(Deadline())
        service = self._services.find_shown(bot_id, Deadline())
        if service is None:
            return node_with_state(bot_id, nodes)
        node_id = pinned_node(service)
        node = next((each for each in nodes if each["ID"] == node_id), None)
        if node is None:
            raise InvalidStateError(
                "the bot's container is not pinned to a node of the swarm; remove it and create it again", bot_id=bot_id
            )
        return node

    def _node_for_new_state(self, bot_id: str) -> Json:
        """One whose engine is named."""
        nodes = [node for node in self._nodes.all(Deadline()) if self._volumes.reaches(node)]
        return node_for_new_state(bot_id, nodes, self._services.of_all_bots(Deadline(), bot_id))

    @contextmanager
    def _volume(self, bot_id: str, node: Json) -> Iterator[StateVolume]:
        name = node_name(node)
        if self._volumes.reaches(node) and is_down(node):
            raise NodeUnavailableError(f"node {name} of the bot's state cannot be reached", bot_id=bot_id, node=name)
        with self._volumes.opened(bot_id, node) as volume:
            if volume.remaps_users():
                raise NotSupportedByBackendError(
                    f"the bot's state is on node {name}, whose engine remaps users: it takes no files as it gives them",
                    bot_id=bot_id,
                    backend=BACKEND,
                    node=name,
                )
            yield volume
