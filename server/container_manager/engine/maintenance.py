"""The engine's calls that only maintenance needs."""

from __future__ import annotations

from http import HTTPStatus

from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError

# 404: gone. 409 and 500: not running, or in that state already, by the engine's version.
_NOT_IN_THAT_STATE = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.INTERNAL_SERVER_ERROR)


class MaintenanceClient(EngineClient):
    """Pauses containers of one engine, from any number of threads."""

    def pause_container(self, container_id: str) -> bool:
        """Freeze a container's processes; False: it does not run, is being restarted, or is paused already."""
        return self._changed("pause", container_id, paused=True)

    def unpause_container(self, container_id: str) -> bool:
        """Let them go on; False: it was not paused."""
        return self._changed("unpause", container_id, paused=False)

    def _changed(self, verb: str, container_id: str, *, paused: bool) -> bool:
        path = f"/containers/{container_id}/{verb}"
        try:
            self._call(f"{verb}_container", lambda api: api.exchange("POST", path), None)
        except EngineRejectedError as exc:
            if exc.status in _NOT_IN_THAT_STATE and self._is_other(container_id, paused=paused):
                return False
            raise
        return True

    def _is_other(self, container_id: str, *, paused: bool) -> bool:
        """Whether the container's own state explains the engine's refusal."""
        document = self.inspect_container(container_id, Deadline())
        if document is None:
            return True
        state = document["State"]
        # "Running" is also true between two runs of a container that is restarted.
        return bool(state["Paused"]) is paused or not state["Running"] or bool(state["Restarting"])
