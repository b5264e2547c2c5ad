"""The engine's calls about volumes."""

from __future__ import annotations

from http import HTTPStatus

from container_manager.engine.client import EngineClient
from container_manager.engine.transport_errors import EngineRejectedError


class VolumeClient(EngineClient):
    """Of one engine."""

    def remove_volume(self, name: str) -> bool:
        """Remove a volume with all that is in it, if it is there; False: a container, running or not, has it."""
        try:
            self._call("remove_volume", lambda api: api.exchange("DELETE", f"/volumes/{name}"), None)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                return False
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
        return True
