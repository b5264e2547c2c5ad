"""Programs inside the containers of one engine, as ``docker exec`` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from container_manager.backend import CallObserver
from container_manager.backend_provisioning import ActionResult, OnOutput
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.execution import ExecClient
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import ContainerNotFoundError, InvalidStateError
from container_manager.model import LogSource

_MOST_KEPT_BYTES = 64 * 1024


class EngineActions:
    """A :class:`~container_manager.backend_provisioning.Actions`, usable from any number of threads."""

    def __init__(self, docker_host: str, *, timeout_seconds: float, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the engine."""
        self._engine = ExecClient(docker_host, timeout_seconds=timeout_seconds, observer=observer)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._engine.close()

    def run(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float,
        on_output: OnOutput | None = None,
    ) -> ActionResult:
        kept = {LogSource.STDOUT: bytearray(), LogSource.STDERR: bytearray()}

        def receive(is_stderr: bool, data: bytes) -> None:
            source = LogSource.STDERR if is_stderr else LogSource.STDOUT
            kept[source] += data[: _MOST_KEPT_BYTES - len(kept[source])]
            if on_output is not None:
                on_output(source, data)

        try:
            exit_code = self._engine.execute(container_id, command, stdin=stdin, seconds=seconds, on_output=receive)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.CONFLICT:
                raise InvalidStateError(f"no program can run in the container: {exc.text}") from exc
            if exc.status == HTTPStatus.NOT_FOUND:
                raise ContainerNotFoundError("the container is gone") from exc
            raise engine_error(exc) from exc
        return ActionResult(exit_code, bytes(kept[LogSource.STDOUT]), bytes(kept[LogSource.STDERR]))
