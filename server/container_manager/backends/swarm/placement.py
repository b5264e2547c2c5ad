"""Where a bot may run on a swarm, and where its state is.

pinned     The state is a volume on one node, which is chosen at the create, and the bot runs on no other.
floating   The state is on storage that all nodes have at the same path; a bot without a state needs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from enum import Enum
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


def pinned(bot_id: str, target: str, nodes: Collection[Json], services: Sequence[Json]) -> Placement:
    """A node for a new bot, with a volume for its state.

    The node that has the bot's state already; else one that takes bots, workers first, with the fewest bots.
    ``target``: where the state appears in the container; ``services``: of all bots. Raises
    :class:`EngineUnavailableError` when no node takes bots.
    """
    node = node_with_state(bot_id, nodes) or _node_for_new_state(bot_id, nodes, services)
    volume = {
        "Type": "volume",
        "Source": container_name(bot_id),
        "Target": target,
        "VolumeOptions": {
            "Labels": {LABEL_MANAGED: "true", LABEL_BOT_ID: bot_id},
            "DriverConfig": {"Name": "local"},
        },
    }
    return Placement([f"node.id=={node['ID']}"], [volume])


def floating(source: str | None, target: str) -> Placement:
    """Any node. ``source``: the state's path on every node; ``None``: the bot keeps no state."""
    mounts = [] if source is None else [{"Type": "bind", "Source": source, "Target": target}]
    return Placement((), mounts)


def _node_for_new_state(bot_id: str, nodes: Collection[Json], services: Sequence[Json]) -> Json:
    able = [node for node in nodes if _takes_bots(node)]
    if not able:
        raise EngineUnavailableError("no node of the swarm takes bots now", bot_id=bot_id)
    bots = Counter(map(pinned_node, services))
    return min(able, key=lambda each: (each["Spec"].get("Role") == "manager", bots[each["ID"]], each["ID"]))


def _takes_bots(node: Json) -> bool:
    return (node.get("Status") or {}).get("State") == "ready" and node["Spec"].get("Availability") == "active"
