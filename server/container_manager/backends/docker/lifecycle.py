"""The operations on bots' containers, carried out on one Docker Engine.

A bot's container is the one with the bot's name, if its labels say that it is ours. Every operation then acts on its
id, so that nothing foreign that takes the name meanwhile is touched. One with the labels and another name is shown, and
never changed. The engine is the only truth: nothing is remembered between calls. A caller that knows the bot's
container passes it as ``known``, which saves the look-up; where the engine has no such container any more, it is looked
up after all.

    (absent) ──create──► CREATED ──start──► RUNNING ──crash──► RESTARTING ──restart policy──► RUNNING
    RUNNING, PAUSED, RESTARTING ──stop──► EXITED ──start──► RUNNING          any ──remove──► (absent)

``start`` has no effect on RUNNING and RESTARTING, and is refused on PAUSED, REMOVING and DEAD. ``stop`` has no effect
where nothing runs. ``restart`` is refused on REMOVING and DEAD. ``create`` is refused unless the container is absent.
"""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus

from container_manager.backend import CallObserver, Created
from container_manager.backends.docker import lookup
from container_manager.backends.docker.command_check import CommandCheck
from container_manager.backends.docker.config_reader import ConfigReader
from container_manager.backends.docker.container_images import ContainerImages
from container_manager.backends.docker.creation import ContainerCreator
from container_manager.backends.docker.ending import restart, stop
from container_manager.backends.docker.listing import ContainerLister
from container_manager.backends.docker.start_directories import check_directories
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.config import DockerServiceConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error, start_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.transport_errors import EngineRejectedError
from container_manager.errors import (
    EngineTimeoutError,
    EngineUnavailableError,
    NameInUseUnmanagedError,
    SecretsUnavailableError,
    StateUnavailableError,
)
from container_manager.model import ContainerConfig, ContainerDefinition, ContainerState, ContainerStatus
from container_manager.operation import Operation, Wait
from container_manager.validation import check_grace_seconds

_REMOVAL_POLL_SECONDS = 0.05
_RUNNING = (ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.RESTARTING)
_STARTED = (ContainerState.RUNNING, ContainerState.RESTARTING)
_STOPPED = (ContainerState.CREATED, ContainerState.EXITED)


class DockerLifecycle:
    """A lifecycle for any number of threads. The engine arbitrates operations on one bot, the RPC layer queues them."""

    def __init__(
        self, config: DockerServiceConfig, observer: CallObserver | None = None, reader: StatusReader | None = None
    ) -> None:
        """``observer`` receives each call to the engine; ``reader``: shared with what follows the engine."""
        self._config = config
        self._grace_seconds = check_grace_seconds(config.grace_seconds)
        seconds = config.engine_timeout_seconds
        self._engine = EngineClient(config.docker_host, timeout_seconds=seconds, observer=observer)
        self._calls = LongCalls(config.docker_host, timeout_seconds=seconds, observer=observer)
        self._reader = reader or StatusReader()
        self._commands = CommandCheck(self._engine)
        self.images = ContainerImages(self._engine, self._calls, config)
        self._creator = ContainerCreator(self._engine, self.images, self._commands, config, self._reader)
        self.host_user = self._creator.host_user
        """Which user of this host a user of a container is."""
        self._configs = ConfigReader(self._engine, config)
        self._lister = ContainerLister(self._engine, self._reader)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._creator.close()
        self._lister.close()
        self._calls.close()
        self._engine.close()

    def ping(self, *, deadline: Deadline | None = None) -> None:
        try:
            self._engine.ping(deadline or Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc) from exc

    def create_container(
        self,
        bot_id: str,
        config: ContainerConfig,
        *,
        request_id: str = "",
        absent: bool = False,
        image_id: str = "",
        state_mount: str = "",
        deadline: Deadline | None = None,
    ) -> Operation[Created]:
        return self._creator.create(
            bot_id, config, request_id, deadline, absent=absent, image_id=image_id, state_mount=state_mount
        )

    @property
    def default_grace_seconds(self) -> int:
        return self._grace_seconds

    def start_container(
        self, bot_id: str, *, known: ContainerStatus | None = None, deadline: Deadline | None = None
    ) -> Operation[str]:
        return self._start(bot_id, None, known, deadline)

    def stop_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        grace = self._grace(grace_seconds)
        if known is not None and (yield from self._stop(known, grace)):
            return known.container_id
        container = self._find(bot_id, deadline)
        if container is None:
            return ""
        yield from self._stop(container, grace)
        return container.container_id

    def restart_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        return self._start(bot_id, self._grace(grace_seconds), known, deadline)

    def remove_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        grace = self._grace(grace_seconds)
        if known is not None and (yield from self._remove_known(known, grace)):
            return known.container_id
        container = self._find(bot_id, deadline)
        if container is None:
            return ""
        if container.state in _RUNNING:
            yield from self._stop(container, grace)
        yield from self._remove(container)
        return container.container_id

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        deadline = deadline or Deadline()
        try:
            document = lookup.find_shown_container(self._engine, bot_id, deadline)
        except NameInUseUnmanagedError:
            return None
        return None if document is None else self._reader.read(self._engine, document, deadline)

    def require_container(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus:
        document = lookup.find_shown_container(self._engine, bot_id, deadline or Deadline())
        if document is None:
            raise lookup.not_found(bot_id)
        return self._reader.status(document)

    def get_container_config(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerDefinition:
        return self._configs.read(bot_id, deadline or Deadline())

    def containers_of_bot(self, bot_id: str, *, deadline: Deadline | None = None) -> list[str]:
        """As the interface says; so also a container of another name, as BotMaker made them before this service."""
        return lookup.container_ids(self._engine, bot_id, deadline or Deadline())

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        """As the interface says; a container that cannot be inspected shows what the engine's list says."""
        return self._lister.list(states, deadline or Deadline())

    def _grace(self, grace_seconds: int | None) -> int:
        return self._grace_seconds if grace_seconds is None else grace_seconds

    def _find(self, bot_id: str, deadline: Deadline | None = None) -> ContainerStatus | None:
        document = lookup.find_container(self._engine, bot_id, deadline or Deadline())
        return None if document is None else self._reader.status(document)

    def _require(self, bot_id: str, deadline: Deadline | None) -> ContainerStatus:
        if (container := self._find(bot_id, deadline)) is None:
            raise lookup.not_found(bot_id)
        return container

    def _start(
        self, bot_id: str, grace: int | None, known: ContainerStatus | None, deadline: Deadline | None
    ) -> Operation[str]:
        """``grace``: of a restart; ``None``: only start it."""
        container = known or self._require(bot_id, deadline)
        try:
            check_directories(self._engine, self._config, bot_id, deadline or Deadline())
        except (SecretsUnavailableError, StateUnavailableError):
            # A bot that runs has been started, whatever has become of its directories.
            now = self._find(bot_id, deadline) if grace is None else None
            if now is None or now.state not in _STARTED:
                raise
            return now.container_id
        if grace is not None or container.state not in _STARTED:
            self._commands.check_start(container.container_id, container.state, bot_id, deadline or Deadline())
        try:
            if grace is None:
                self._engine.start_container(container.container_id)
            else:
                yield from restart(self._calls, container, grace, self._inspect)
        except EngineRejectedError as exc:
            # 404 names the container, or something that it needs, such as its network.
            if exc.status != HTTPStatus.NOT_FOUND or self._inspect(container) is not None:
                raise start_error(exc, bot_id) from exc
        except EngineTimeoutError:
            self._settle_start(container, anew=grace is not None)
            return container.container_id
        else:
            return container.container_id
        if known is None:
            # Removed since the look-up above.
            raise lookup.not_found(bot_id)
        return (yield from self._start(bot_id, grace, None, deadline))

    def _stop(self, container: ContainerStatus, grace: int) -> Operation[bool]:
        """Stop it; False: the engine has no such container."""
        try:
            yield from stop(self._calls, container, grace)
        except EngineRejectedError as exc:
            if exc.status == HTTPStatus.NOT_FOUND:
                return False
            raise engine_error(exc, container.bot_id) from exc
        except EngineTimeoutError:
            now = self._inspect(container)
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

    def _settle_start(self, container: ContainerStatus, *, anew: bool) -> None:
        """After a start without an answer: what the engine shows counts, and nothing is sent again."""
        now = self._inspect(container)
        runs = now is not None and now.state is ContainerState.RUNNING
        if not runs or (anew and now is not None and now.start_time_ns == container.start_time_ns):
            state = "gone" if now is None else "in no known state" if now.state is None else now.state.value
            raise EngineTimeoutError(
                f"the engine did not answer the start in time; the container is now {state}", bot_id=container.bot_id
            )

    def _await_gone(self, container: ContainerStatus) -> Operation[None]:
        deadline = Deadline(self._config.engine_timeout_seconds)
        while (now := self._inspect(container)) is not None:
            if now.state is ContainerState.DEAD:
                raise EngineUnavailableError(
                    "another removal failed half-way and left the container dead; remove it again", bot_id=now.bot_id
                )
            if deadline.remaining() == 0:
                raise EngineTimeoutError("the engine has not finished the removal in time", bot_id=container.bot_id)
            yield Wait(seconds=_REMOVAL_POLL_SECONDS)

    def _inspect(self, container: ContainerStatus) -> ContainerStatus | None:
        try:
            document = self._engine.inspect_container(container.container_id, Deadline())
        except EngineRejectedError as exc:
            raise engine_error(exc, container.bot_id) from exc
        return None if document is None else self._reader.status(document)
