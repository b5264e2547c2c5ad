"""The statuses of bots' containers, looked up on the engine."""

from __future__ import annotations

from container_manager.backends.docker import lookup
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.model import ContainerStatus


class BotContainers:
    """Looks on one engine. Safe for any number of threads."""

    def __init__(self, engine: EngineClient, reader: StatusReader) -> None:
        self._engine = engine
        self._reader = reader

    def find(self, bot_id: str, deadline: Deadline | None = None) -> ContainerStatus | None:
        """The container that changes act on; ``None`` when the bot has none. Raises as ``lookup.find_container``."""
        document = lookup.find_container(self._engine, bot_id, deadline or Deadline())
        return None if document is None else self._reader.status(document)

    def require(self, bot_id: str, deadline: Deadline | None) -> ContainerStatus:
        """As :meth:`find`. Raises :class:`ContainerNotFoundError` when the bot has none."""
        if (container := self.find(bot_id, deadline)) is None:
            raise lookup.not_found(bot_id)
        return container

    def note_stop(self, container: ContainerStatus) -> None:
        """Note that a container is about to be stopped or restarted, which tells why its run ends."""
        self._reader.ends.stops(container)

    def now(self, container: ContainerStatus) -> ContainerStatus | None:
        """What has become of a container; ``None``: it is gone."""
        try:
            document = self._engine.inspect_container(container.container_id, Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc, container.bot_id) from exc
        return None if document is None else self._reader.status(document)
