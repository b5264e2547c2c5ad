"""Where a bot may run on a swarm, and where its state is.

pinned     The state is a volume on one node, which is chosen at the create, and the bot runs on no other.
floating   The state is on storage that all nodes have at the same path; a bot without a state needs none.
"""

from __future__ import annotations

import secrets as random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from types import MappingProxyType
from typing import Any

from container_manager.backends.bot_container import LABEL_BOT_ID, LABEL_MANAGED
from container_manager.backends.swarm.service_spec import Placement
from container_manager.backends.swarm.state_nodes import node_with_state
from container_manager.backends.swarm.status import pinned_node
from container_manager.bot_directories import RootDirectory
from container_manager.config import BackendConfig, SwarmConfig
from container_manager.errors import EngineUnavailableError
from container_manager.model import container_name

Json = dict[str, Any]


class Placing(Enum):
    """The operator's choice, ``--placement``."""

    PINNED = "pinned"
    FLOATING = "floating"


def shared_states(config: BackendConfig, swarm: SwarmConfig) -> RootDirectory | None:
    """The root of bots' states on storage that all nodes share; ``None``: there is none."""
    return config.state_root if Placing(swarm.placement) is Placing.FLOATING else None


class NodeChoice:
    """Chooses nodes for new bots, for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Nodes' ids by the names of services that are being created.
        self._chosen: dict[str, str] = {}
        # For each list of services that is under way: the same of all that it may not show.
        self._unlisted: list[dict[str, str]] = []

    @contextmanager
    def node_for(
        self, bot_id: str, nodes: Collection[Json], list_services: Callable[[], Sequence[Json]]
    ) -> Iterator[str]:
        """The id of the node for a bot that is created within the block.

        The node that has the bot's state already; else one that takes bots, workers first, with the fewest bots: those
        whose services ``list_services`` returns, and those that are being created. Raises
        :class:`EngineUnavailableError` when no node takes bots.
        """
        name = container_name(bot_id)
        with self._lock:
            unlisted = dict(self._chosen)
            self._unlisted.append(unlisted)
        try:
            services = list_services()
            with self._lock:
                node = node_with_state(bot_id, nodes) or node_for_new_state(bot_id, nodes, services, unlisted)
                for chosen in (self._chosen, *self._unlisted):
                    chosen[name] = node["ID"]
        finally:
            with self._lock:
                self._unlisted = [each for each in self._unlisted if each is not unlisted]
        try:
            yield str(node["ID"])
        finally:
            with self._lock:
                self._chosen.pop(name, None)


def pinned(bot_id: str, target: str, node_id: str) -> Placement:
    """The node, with a volume for the bot's state. ``target``: where the state appears in the container."""
    return Placement([f"node.id=={node_id}"], [state_volume(bot_id, target)])


def state_volume(bot_id: str, target: str) -> Json:
    """The mount of a volume with the bot's state, which the engine makes if it is not there."""
    return {
        "Type": "volume",
        "Source": container_name(bot_id),
        "Target": target,
        "VolumeOptions": {
            "Labels": {LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id},
            "DriverConfig": {"Name": "local"},
        },
    }


def floating(source: str | None, target: str) -> Placement:
    """Any node. ``source``: the state's path on every node; ``None``: the bot keeps no state."""
    mounts = [] if source is None else [{"Type": "bind", "Source": source, "Target": target}]
    return Placement((), mounts)


def node_for_new_state(
    bot_id: str, nodes: Collection[Json], services: Sequence[Json], unlisted: Mapping[str, str] = MappingProxyType({})
) -> Json:
    """The node that takes bots and has the fewest, workers first. Raises :class:`EngineUnavailableError` without any.

    ``services``: of all bots. ``unlisted``: the nodes' ids, by the names of services that may not be among these yet.
    """
    able = [node for node in nodes if _takes_bots(node)]
    if not able:
        raise EngineUnavailableError("no node of the swarm takes bots now", bot_id=bot_id)
    listed = {service["Spec"]["Name"] for service in services}
    bots = Counter(map(pinned_node, services))
    bots.update(node_id for name, node_id in unlisted.items() if name not in listed)
    # Ties at random: services on other managers count the same bots.
    return min(
        able,
        key=lambda each: (each["Spec"].get("Role") == "manager", bots[each["ID"]], random.randbelow(len(able) ** 2)),
    )


def _takes_bots(node: Json) -> bool:
    return (node.get("Status") or {}).get("State") == "ready" and node["Spec"].get("Availability") == "active"
