"""Bots' states in volumes of single nodes, as a :class:`~container_manager.backend_provisioning.Files` that deletes."""

from __future__ import annotations

from container_manager.backends.swarm.service_spec import BACKEND
from container_manager.backends.swarm.state_nodes import PREFIX, StateNodes
from container_manager.backends.swarm.state_volumes import StateVolumes
from container_manager.backends.swarm.status import node_name
from container_manager.deadline import Deadline
from container_manager.errors import NotSupportedByBackendError
from container_manager.model import container_name
from container_manager.operation import carry_out
from container_manager.provisioning.host_states import HostStates

NO_FILES = "bots' states are on single nodes, where this service does not reach their files"


class PinnedFiles:
    """Of one swarm, for any number of threads."""

    def __init__(self, nodes: StateNodes, volumes: StateVolumes, copies: HostStates | None) -> None:
        """``copies``: those of maintenance; ``None``: there are none."""
        self._nodes = nodes
        self._volumes = volumes
        self._copies = copies

    def put_files(self, bot_id: str, files: object) -> None:  # noqa: ARG002 - none is reached
        raise NotSupportedByBackendError(NO_FILES, bot_id=bot_id, backend=BACKEND)

    def delete_state(self, bot_id: str) -> None:
        """Remove the volume, the node's label and what is kept beside this service.

        Raises :class:`NotSupportedByBackendError`, with the way to do that by hand, if the node's engine is not named,
        and :class:`EngineUnavailableError` if another node's engine is named for it.
        """
        node = self._nodes.find(bot_id, Deadline())
        if node is not None:
            self._delete_volume(bot_id, node)
        if self._copies is not None:
            self._copies.discard_all(bot_id)

    def remove_leftovers(self) -> None:
        if self._copies is not None:
            self._copies.remove_leftovers()

    def _delete_volume(self, bot_id: str, node: dict[str, object]) -> None:
        name = node_name(node)
        if not self._volumes.reaches(node):
            raise NotSupportedByBackendError(
                f"the bot's state is on node {name}, whose engine no --node-engine names; remove it there with: "
                f"docker volume rm {container_name(bot_id)}; and then on a manager with: "
                f"docker node update --label-rm {PREFIX}{bot_id} {name}",
                bot_id=bot_id,
                backend=BACKEND,
                node=name,
            )
        with self._volumes.opened(bot_id, node) as volume:
            volume.remove()
        carry_out(self._nodes.forget(bot_id, str(node["ID"])))
