"""Programs inside bots' containers, as ``docker exec`` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from container_manager.backend import CallObserver
from container_manager.backend_provisioning import ActionResult
from container_manager.config import DockerServiceConfig
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.execution import ExecClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import InvalidStateError


class DockerActions:
    """A :class:`~container_manager.backend_provisioning.Actions`, usable from any number of threads."""

    def __init__(self, config: DockerServiceConfig, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the engine."""
        self._engine = ExecClient(config.docker_host, timeout_seconds=config.engine_timeout_seconds, observer=observer)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._engine.close()

    def run(self, container_id: str, command: Sequence[str], *, stdin: bytes, seconds: float) -> ActionResult:
        try:
            return ActionResult(*self._engine.execute(container_id, command, stdin=stdin, seconds=seconds))
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                raise InvalidStateError(f"no program can run in the container: {exc.text}") from exc
            raise engine_error(exc) from exc
