"""The seven lifecycle operations on bots' containers, on one Docker Engine.

A bot's container is found by its name and is ours only if its labels say so; it is then acted on by its id, so that
nothing foreign that takes the name meanwhile is ever touched. The engine is the only truth: nothing is remembered
between calls.

    (absent) ──create──► CREATED ──start──► RUNNING ──crash──► RESTARTING ──restart policy──► RUNNING
    RUNNING, PAUSED, RESTARTING ──stop──► EXITED ──start──► RUNNING          any ──remove──► (absent)

``start`` has no effect on RUNNING and RESTARTING, and is refused on PAUSED and REMOVING. ``stop`` has no effect where
nothing runs. ``restart`` is refused on REMOVING. ``create`` is refused unless the container is absent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from http import HTTPStatus

from container_manager.backend import CallObserver
from container_manager.backends.docker.creation import ContainerCreator
from container_manager.backends.docker.listing import ContainerLister
from container_manager.backends.docker.lookup import find_container, remove
from container_manager.backends.docker.status import status_from_inspect
from container_manager.bot_directories import check_secrets_directory, check_state_directory
from container_manager.config import DockerServiceConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error, start_error
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    ContainerNotFoundError,
    EngineTimeoutError,
    EngineUnavailableError,
    NameInUseUnmanagedError,
)
from container_manager.model import ContainerConfig, ContainerState, ContainerStatus
from container_manager.validation import check_bot_id, check_grace_seconds

_REMOVAL_POLL_SECONDS = 0.05
_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)


class DockerService:
    """The lifecycle operations, synchronous and usable from any number of threads; no gRPC in sight.

    Every method raises :class:`~container_manager.errors.ContainerManagerError` and nothing else on purpose. A
    ``deadline`` bounds reads and waits; a start, stop, restart or remove that has reached the engine runs to its end.
    Operations on one bot at once are safe, and the engine arbitrates them; the RPC layer queues them.
    """

    def __init__(self, config: DockerServiceConfig, observer: CallObserver | None = None) -> None:
        """``observer`` is told of each call to the engine."""
        self._config = config
        self._engine = EngineClient(
            config.docker_host, timeout_seconds=config.engine_timeout_seconds, observer=observer
        )
        self._creator = ContainerCreator(self._engine, config)
        self._lister = ContainerLister(self._engine)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._lister.close()
        self._engine.close()

    def ping(self, *, deadline: Deadline | None = None) -> None:
        """Return if the engine answers."""
        try:
            self._engine.ping(deadline or Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def create_container(
        self,
        bot_id: str,
        config: ContainerConfig | None = None,
        *,
        request_id: str = "",
        deadline: Deadline | None = None,
    ) -> str:
        """Create the bot's container, pulling its image as the policy says; its 64-digit id.

        With a ``request_id``, the container that an earlier call with the same one made counts as this call's. A call
        that fails, or whose deadline passes or is cancelled, leaves nothing behind.
        """
        return self._creator.create(bot_id, config or ContainerConfig(), request_id, deadline or Deadline())

    def start_container(self, bot_id: str, *, deadline: Deadline | None = None) -> None:
        """Start the bot's container; a running one is left as it is. One start reaches the engine, never a second.

        Raises :class:`ContainerNotFoundError`, :class:`StartFailedError` and its kinds with the engine's text,
        :class:`InvalidStateError` when paused or being removed, :class:`SecretsUnavailableError`,
        :class:`StateUnavailableError`.
        """
        check_bot_id(bot_id)
        self._start(bot_id, self._engine.start_container, deadline, anew=False)

    def stop_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container; a stopped or missing one is left as it is.

        Its stop signal first, then SIGKILL after ``grace_seconds``: 0 to 86400, rounded up to whole seconds; ``None``:
        the configured default.
        """
        check_bot_id(bot_id)
        grace = self._grace(grace_seconds)
        container = self._find(bot_id, deadline)
        if container is not None:
            self._stop(container, grace)

    def restart_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container as :meth:`stop_container` does and start it anew. Errors as of start."""
        check_bot_id(bot_id)
        grace = self._grace(grace_seconds)
        restart = partial(self._engine.restart_container, grace_seconds=grace)
        self._start(bot_id, restart, deadline, anew=True)

    def remove_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container as :meth:`stop_container` does, and remove it with its anonymous volumes.

        Returns when it is gone from the engine; a missing one is gone. Secrets and state directories are kept.
        """
        check_bot_id(bot_id)
        grace = self._grace(grace_seconds)
        container = self._find(bot_id, deadline)
        if container is None:
            return
        if container.state in _RUNNING:
            self._stop(container, grace)
        try:
            gone = remove(self._engine, container.container_id)
        except EngineRejectedError as exc:
            raise engine_error(exc, bot_id) from exc
        except EngineTimeoutError:
            gone = False
        if not gone:
            # Ours may still come to its end, or another's that is under way beside this service.
            self._await_gone(container)

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        """The status of the bot's container; ``None`` when it has none, or only a foreign one has its name."""
        check_bot_id(bot_id)
        try:
            return self._find(bot_id, deadline)
        except NameInUseUnmanagedError:
            return None

    def require_container(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus:
        """As :meth:`get_container_status`, for those who need one.

        Raises :class:`ContainerNotFoundError`, :class:`NameInUseUnmanagedError`.
        """
        check_bot_id(bot_id)
        container = self._find(bot_id, deadline)
        if container is None:
            raise _not_found(bot_id)
        return container

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        """The status of every container labelled as managed, orphans included, by create time, then id.

        ``states`` narrows it; empty means all. A container that cannot be inspected shows what the engine's list says.
        """
        return self._lister.list(states, deadline or Deadline())

    def _grace(self, grace_seconds: float | None) -> int:
        return check_grace_seconds(self._config.grace_seconds if grace_seconds is None else grace_seconds)

    def _find(self, bot_id: str, deadline: Deadline | None = None) -> ContainerStatus | None:
        document = find_container(self._engine, bot_id, deadline or Deadline())
        return None if document is None else status_from_inspect(document)

    def _start(self, bot_id: str, send: Callable[[str], None], deadline: Deadline | None, *, anew: bool) -> None:
        container = self.require_container(bot_id, deadline=deadline)
        check_secrets_directory(self._config.secrets_root, bot_id)
        if self._config.state_root is not None:
            check_state_directory(self._config.state_root, bot_id)
        try:
            send(container.container_id)
        except EngineRejectedError as exc:
            # 404 names the container, or something that it needs, such as its network.
            if exc.status == HTTPStatus.NOT_FOUND and self._inspect(container) is None:
                raise _not_found(bot_id) from exc
            raise start_error(exc, bot_id) from exc
        except EngineTimeoutError:
            self._settle_start(container, anew=anew)

    def _stop(self, container: ContainerStatus, grace: int) -> None:
        try:
            self._engine.stop_container(container.container_id, grace)
        except EngineRejectedError as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise engine_error(exc, container.bot_id) from exc
        except EngineTimeoutError:
            now = self._inspect(container)
            if now is not None and now.state in _RUNNING:
                raise

    def _settle_start(self, container: ContainerStatus, *, anew: bool) -> None:
        """After a start without an answer: what the engine shows counts, and nothing is sent again."""
        now = self._inspect(container)
        runs = now is not None and now.state is ContainerState.RUNNING
        if not runs or (anew and now is not None and now.start_time_ns == container.start_time_ns):
            state = "gone" if now is None else "in no known state" if now.state is None else now.state.value
            raise EngineTimeoutError(
                f"the engine did not answer the start in time; the container is now {state}", bot_id=container.bot_id
            )

    def _await_gone(self, container: ContainerStatus) -> None:
        deadline = Deadline(self._config.engine_timeout_seconds)
        while (now := self._inspect(container)) is not None:
            if now.state is ContainerState.DEAD:
                raise EngineUnavailableError(
                    "another removal failed half-way and left the container dead; remove it again", bot_id=now.bot_id
                )
            if deadline.remaining() == 0:
                raise EngineTimeoutError("the engine has not finished the removal in time", bot_id=container.bot_id)
            time.sleep(_REMOVAL_POLL_SECONDS)

    def _inspect(self, container: ContainerStatus) -> ContainerStatus | None:
        try:
            document = self._engine.inspect_container(container.container_id, Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc, container.bot_id) from exc
        return None if document is None else status_from_inspect(document)


def _not_found(bot_id: str) -> ContainerNotFoundError:
    return ContainerNotFoundError("the bot has no container; create one first", bot_id=bot_id)
