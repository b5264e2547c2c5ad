"""One container's log on one engine."""

from __future__ import annotations

from container_manager.backends.engine_log import EngineLog
from container_manager.engine.async_client import AsyncEngineClient
from container_manager.engine.transport_errors import EngineRejectedError


class DockerContainerLog(EngineLog):
    """A :class:`~container_manager.backend_logs.ContainerLog`."""

    def __init__(self, engine: AsyncEngineClient, container_id: str) -> None:
        super().__init__(engine, f"/containers/{container_id}", container_id)

    async def runs(self) -> bool:
        try:
            state = (await self._engine.get_json(f"{self._path}/json"))["State"]
        except EngineRejectedError as exc:
            raise self._error(exc) from exc
        return bool(state["Running"]) and not state["Restarting"]
