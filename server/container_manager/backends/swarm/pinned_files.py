"""Bots' states in volumes of single nodes, as a :class:`~container_manager.backend_provisioning.Files` that deletes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from container_manager.backend import CallObserver
from container_manager.backends.swarm.bot_services import check_node, of_node
from container_manager.backends.swarm.service_spec import BACKEND
from container_manager.backends.swarm.state_nodes import PREFIX, StateNodes
from container_manager.backends.swarm.status import node_name
from container_manager.deadline import Deadline
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.engine.volumes import VolumeClient
from container_manager.errors import InvalidStateError, NotSupportedByBackendError
from container_manager.model import container_name

NO_FILES = "bots' states are on single nodes, where this service does not reach their files"
# A node removes the last containers of a service a moment after the service is gone.
_IN_USE_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class PinnedFiles:
    """Of one swarm, for any number of threads."""

    def __init__(
        self,
        nodes: StateNodes,
        endpoints: Mapping[str, str],
        *,
        seconds: float,
        observer: CallObserver | None = None,
    ) -> None:
        """``endpoints``: of nodes' engines, by the nodes' host names or ids. ``seconds``: the time-out of a call."""
        self._nodes = nodes
        self._endpoints = endpoints
        self._seconds = seconds
        self._observer = observer

    def put_files(self, bot_id: str, files: object) -> None:  # noqa: ARG002 - none is reached
        raise NotSupportedByBackendError(NO_FILES, bot_id=bot_id, backend=BACKEND)

    def delete_state(self, bot_id: str) -> None:
        """Remove the volume and the node's label.

        Raises :class:`NotSupportedByBackendError`, with the way to do that by hand, if the node's engine is not named,
        and :class:`EngineUnavailableError` if another node's engine is named for it.
        """
        node = self._nodes.find(bot_id, Deadline())
        if node is None:
            return
        name = node_name(node)
        endpoint = of_node(self._endpoints, node["ID"], name)
        if endpoint is None:
            raise NotSupportedByBackendError(
                f"the bot's state is on node {name}, whose engine no --node-engine names; remove it there with: "
                f"docker volume rm {container_name(bot_id)}; and then on a manager with: "
                f"docker node update --label-rm {PREFIX}{bot_id} {name}",
                bot_id=bot_id,
                backend=BACKEND,
                node=name,
            )
        self._remove_volume(bot_id, node["ID"], endpoint)
        self._nodes.forget(bot_id, node["ID"])

    def remove_leftovers(self) -> None:
        """Nothing is left on nodes."""

    def _remove_volume(self, bot_id: str, node_id: str, endpoint: str) -> None:
        engine = VolumeClient(endpoint, timeout_seconds=self._seconds, observer=self._observer)
        patience = Deadline(_IN_USE_SECONDS)
        try:
            # Another node's engine would say that there is no volume.
            check_node(engine.info(Deadline()), node_id)
            while not engine.remove_volume(container_name(bot_id)):
                if patience.remaining() == 0:
                    raise InvalidStateError("a container on the node still has the bot's state", bot_id=bot_id)
                time.sleep(_LOOK_SECONDS)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        finally:
            engine.close()
