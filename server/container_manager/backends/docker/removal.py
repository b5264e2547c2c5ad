"""Stops and removes bots' containers."""

from __future__ import annotations

from http import HTTPStatus

from container_manager.backends.docker import ending, lookup
from container_manager.backends.docker.bot_containers import BotContainers
from container_manager.backends.docker.bot_networks import BotNetworks
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import EngineTimeoutError, EngineUnavailableError
from container_manager.model import ContainerState, ContainerStatus
from container_manager.operation import Operation, Wait

_POLL_SECONDS = 0.05
_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)
_STOPPED = (ContainerState.CREATED, ContainerState.EXITED)


class ContainerRemover:
    """Carries out stop and remove. Safe for any number of threads."""

    def __init__(
        self,
        engine: EngineClient,
        calls: LongCalls,
        containers: BotContainers,
        networks: BotNetworks,
        *,
        timeout_seconds: float,
    ) -> None:
        """``timeout_seconds``: how long the removal of a stopped container may take."""
        self._engine = engine
        self._calls = calls
        self._containers = containers
        self._networks = networks
        self._timeout_seconds = timeout_seconds

    def stop(self, bot_id: str, grace: int, known: ContainerStatus | None, deadline: Deadline | None) -> Operation[str]:
        """As :meth:`~container_manager.backend.Lifecycle.stop_container`."""
        if known is not None and (yield from self._stop(known, grace, rest_blocks=False)):
            return known.container_id
        container = self._containers.find(bot_id, deadline)
        if container is None:
            return ""
        yield from self._stop(container, grace, rest_blocks=False)
        return container.container_id

    def remove(
        self, bot_id: str, grace: int, known: ContainerStatus | None, deadline: Deadline | None
    ) -> Operation[str]:
        """As :meth:`~container_manager.backend.Lifecycle.remove_container`; a network of the bot's own goes too."""
        if known is not None and (yield from self._remove_known(known, grace)):
            container: ContainerStatus | None = known
        elif (container := self._containers.find(bot_id, deadline)) is not None:
            if container.state in _RUNNING:
                yield from self._stop(container, grace)
            yield from self._remove(container)
        self._networks.remove(bot_id, was_own=container is not None and container.own_network)
        return "" if container is None else container.container_id

    def _stop(self, container: ContainerStatus, grace: int, *, rest_blocks: bool = True) -> Operation[bool]:
        """Stop it; False: the engine has no such container."""
        self._containers.note_stop(container)
        try:
            yield from ending.stop(self._calls, container, grace, rest_blocks=rest_blocks)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                return False
            raise engine_error(exc, container.bot_id) from exc
        except EngineTimeoutError:
            now = self._containers.now(container)
            if now is not None and now.state in _RUNNING:
                raise
        return True

    def _remove_known(self, container: ContainerStatus, grace: int) -> Operation[bool]:
        """Remove it by its id; False: it is not as the caller knows it, nothing was removed."""
        if container.state in _RUNNING:
            if not (yield from self._stop(container, grace)):
                return False
            yield from self._remove(container)
            return True
        if container.state not in _STOPPED:
            return False
        try:
            # Without force: one that was started a moment ago has its grace period first.
            self._engine.remove_container(container.container_id, force=False)
        except EngineRejectedError:
            return False
        except EngineTimeoutError:
            yield from self._await_gone(container)
        return True

    def _remove(self, container: ContainerStatus) -> Operation[None]:
        try:
            gone = lookup.remove(self._engine, container.container_id)
        except EngineRejectedError as exc:
            raise engine_error(exc, container.bot_id) from exc
        except EngineTimeoutError:
            gone = False
        if not gone:
            # This removal may still end, or another one that is under way beside this service.
            yield from self._await_gone(container)

    def _await_gone(self, container: ContainerStatus) -> Operation[None]:
        deadline = Deadline(self._timeout_seconds)
        while (now := self._containers.now(container)) is not None:
            if now.state is ContainerState.DEAD:
                raise EngineUnavailableError(
                    "another removal failed half-way and left the container dead; remove it again", bot_id=now.bot_id
                )
            if deadline.remaining() == 0:
                raise EngineTimeoutError("the engine has not finished the removal in time", bot_id=container.bot_id)
            yield Wait(seconds=_POLL_SECONDS)
