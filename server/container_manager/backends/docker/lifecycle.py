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
from container_manager.backends.docker.bot_containers import BotContainers
from container_manager.backends.docker.bot_networks import BotNetworks
from container_manager.backends.docker.command_check import CommandCheck
from container_manager.backends.docker.config_reader import ConfigReader
from container_manager.backends.docker.container_images import ContainerImages
from container_manager.backends.docker.creation import ContainerCreator
from container_manager.backends.docker.ending import restart
from container_manager.backends.docker.listing import ContainerLister
from container_manager.backends.docker.removal import ContainerRemover
from container_manager.backends.docker.start_directories import check_directories
from container_manager.backends.docker.status_reader import StatusReader
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.engine.client import EngineClient
from container_manager.engine.error_meanings import engine_error, start_error
from container_manager.engine.long_calls import LongCalls
from container_manager.engine.networks import NetworkClient
from container_manager.engine.transport_errors import STATUSES_OF_PROXIES, EngineRejectedError
from container_manager.errors import (
    EngineTimeoutError,
    NameInUseUnmanagedError,
    SecretsUnavailableError,
    StateUnavailableError,
)
from container_manager.model import ContainerConfig, ContainerDefinition, ContainerState, ContainerStatus
from container_manager.operation import Operation
from container_manager.validation import check_grace_seconds

_STARTED = (ContainerState.RUNNING, ContainerState.RESTARTING)


class DockerLifecycle:
    """A lifecycle for any number of threads. The engine arbitrates operations on one bot, the RPC layer queues them."""

    def __init__(
        self, config: BackendConfig, observer: CallObserver | None = None, reader: StatusReader | None = None
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
        self._containers = BotContainers(self._engine, self._reader)
        networks = NetworkClient(config.docker_host, timeout_seconds=seconds, observer=observer)
        self._networks = BotNetworks(networks, config)
        self._creator = ContainerCreator(
            self._engine, self.images, self._commands, config, self._reader, networks=self._networks
        )
        self.host_user = self._creator.host_user
        """Which user of this host a user of a container is."""
        self._remover = ContainerRemover(
            self._engine, self._calls, self._containers, self._networks, timeout_seconds=seconds
        )
        self._configs = ConfigReader(self._engine, config)
        self._lister = ContainerLister(self._engine, self._reader)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._creator.close()
        self._networks.close()
        self._lister.close()
        self._calls.close()
        self._engine.close()

    def remove_leftovers(self) -> None:
        """As the interface says: networks without a container."""
        self._networks.remove_leftovers()

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
        return self._remover.stop(bot_id, self._grace(grace_seconds), known, deadline)

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
        return self._remover.remove(bot_id, self._grace(grace_seconds), known, deadline)

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

    def _start(
        self, bot_id: str, grace: int | None, known: ContainerStatus | None, deadline: Deadline | None
    ) -> Operation[str]:
        """``grace``: of a restart; ``None``: only start it."""
        container = known or self._containers.require(bot_id, deadline)
        if runs := self._check_directories(bot_id, container, deadline or Deadline(), anew=grace is not None):
            return runs
        self._prepare_start(container, deadline or Deadline(), anew=grace is not None)
        try:
            if grace is None:
                self._engine.start_container(container.container_id)
            else:
                self._containers.note_stop(container)
                yield from restart(self._calls, container, grace, self._containers.now)
        except EngineRejectedError as exc:
            if exc.status in STATUSES_OF_PROXIES and self._is_settled(exc, container, anew=grace is not None):
                return container.container_id
            # 404 names the container, or something that it needs, such as its network.
            if exc.status != HTTPStatus.NOT_FOUND or self._containers.now(container) is not None:
                raise start_error(exc, bot_id, self._config.state_root) from exc
        except EngineTimeoutError:
            self._settle_start(container, anew=grace is not None)
            return container.container_id
        else:
            return container.container_id
        if known is None:
            # Removed since the look-up above.
            raise lookup.not_found(bot_id)
        return (yield from self._start(bot_id, grace, None, deadline))

    def _check_directories(
        self, bot_id: str, container: ContainerStatus, deadline: Deadline, *, anew: bool
    ) -> str | None:
        """The id of a container that runs without them: it has been started, whatever has become of its directories."""
        try:
            check_directories(self._engine, self._config, bot_id, container.container_id, deadline)
        except (SecretsUnavailableError, StateUnavailableError):
            now = None if anew else self._containers.find(bot_id, deadline)
            if now is None or now.state not in _STARTED:
                raise
            return now.container_id
        return None

    def _prepare_start(self, container: ContainerStatus, deadline: Deadline, *, anew: bool) -> None:
        if anew or container.state not in _STARTED:
            self._commands.check_start(container.container_id, container.bot_id, deadline)
        if container.own_network and container.state not in (ContainerState.DEAD, ContainerState.REMOVING):
            self._networks.restore(container.bot_id, container.container_id, deadline)

    def _settle_start(self, container: ContainerStatus, *, anew: bool) -> None:
        """After a start without an answer: what the engine shows counts, and nothing is sent again."""
        now = self._containers.now(container)
        runs = now is not None and now.state in _STARTED
        if not runs or (anew and now is not None and now.start_time_ns == container.start_time_ns):
            state = "gone" if now is None else "in no known state" if now.state is None else now.state.value
            raise EngineTimeoutError(
                f"the engine did not answer the start in time; the container is now {state}", bot_id=container.bot_id
            )

    def _is_settled(self, exc: EngineRejectedError, container: ContainerStatus, *, anew: bool) -> bool:
        """Whether the engine has carried out a start that a proxy may have given up; raises if that is not known."""
        try:
            self._settle_start(container, anew=anew)
        except EngineTimeoutError:
            # The engine has a 503 of its own.
            if exc.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return False
        return True
