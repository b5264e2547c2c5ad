"""The seven operations on containers in memory: see :mod:`tests.support.memory_backend`."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future

from container_manager.backend import Created
from container_manager.bot_directories import RootDirectory, check_secrets_directory
from container_manager.deadline import Deadline
from container_manager.errors import (
    CommandNotFoundError,
    ConfigNotReproducibleError,
    ContainerAlreadyExistsError,
    ContainerNameMismatchError,
    ContainerNotFoundError,
    EngineTimeoutError,
    InvalidStateError,
    NameInUseUnmanagedError,
)
from container_manager.image_reference import check_image_allowed, check_image_reference
from container_manager.model import (
    ContainerConfig,
    ContainerDefinition,
    ContainerState,
    ContainerStatus,
    ExitReason,
    LastExit,
    owned_bot,
)
from container_manager.operation import GracePeriod, Operation, Wait
from tests.support.memory_provisioning import MemorySecrets
from tests.support.memory_store import RUNNING, Container, Gate, MemoryStore

NO_PROGRAM = "no-such-program"


class MemoryLifecycle:
    """Commands run until they are stopped, all but :data:`NO_PROGRAM`, which is not found."""

    default_grace_seconds = 10

    def __init__(
        self,
        store: MemoryStore,
        secrets_root: RootDirectory,
        secrets: MemorySecrets,
        *,
        allowed_images: tuple[str, ...] = (),
        timeout_seconds: float = 2.0,
    ) -> None:
        """``timeout_seconds``: how long a call waits for an answer when its caller sets no deadline."""
        self._store = store
        self._secrets_root = secrets_root
        self._secrets = secrets
        self._allowed_images = allowed_images
        self._timeout_seconds = timeout_seconds

    def ping(self, *, deadline: Deadline | None = None) -> None:
        self._read("ping", "", deadline)

    def remove_leftovers(self) -> None:
        """Nothing is left in memory."""

    def create_container(
        self,
        bot_id: str,
        config: ContainerConfig,
        *,
        request_id: str = "",
        absent: bool = False,  # noqa: ARG002 - looking costs nothing here
        image_id: str = "",
        state_mount: str = "",
        deadline: Deadline | None = None,
    ) -> Operation[Created]:
        if config.image and not image_id:
            check_image_reference(config.image)
            check_image_allowed(config.image, self._allowed_images)
        deadline = deadline or Deadline()
        yield from self._change("create_container", bot_id, deadline, gives_up=True)
        with self._store.lock:
            existing = self._find(bot_id)
            if existing is None:
                self._check_secrets(bot_id)
                deadline.commit()
                container = self._store.create(bot_id, config, request_id)
                container.state_mount = state_mount
                if image_id:
                    self._store.set(container, image_id=image_id)
                return Created(container.status.container_id, container.status)
            container_id = existing.status.container_id
            if request_id and existing.request_id == request_id:
                return Created(container_id)
            raise ContainerAlreadyExistsError(
                "the bot has a container already", bot_id=bot_id, container_id=container_id
            )

    def start_container(
        self,
        bot_id: str,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        yield from self._change("start_container", bot_id, deadline)
        with self._store.lock:
            container = self._known(known) or self._require(bot_id)
            if container.status.state not in (ContainerState.RUNNING, ContainerState.RESTARTING):
                self._run(container)
            self._store.actions_after.pop("start_container", lambda: None)()
            return container.status.container_id

    def stop_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        yield from self._change("stop_container", bot_id, deadline)
        yield from self._grace_period(bot_id, grace_seconds)
        with self._store.lock:
            container = self._known(known) or self._find(bot_id)
            if container is None:
                return ""
            self._end(container, grace_seconds)
            return container.status.container_id

    def restart_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        yield from self._change("restart_container", bot_id, deadline)
        yield from self._grace_period(bot_id, grace_seconds)
        with self._store.lock:
            container = self._known(known) or self._require(bot_id)
            self._end(container, grace_seconds)
            self._run(container)
            return container.status.container_id

    def remove_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        yield from self._change("remove_container", bot_id, deadline)
        yield from self._grace_period(bot_id, grace_seconds)
        with self._store.lock:
            container = self._known(known) or self._find(bot_id)
            if container is None:
                return ""
            self._end(container, grace_seconds)
            self._store.delete(container)
            return container.status.container_id

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        self._read("get_container_status", bot_id, deadline)
        container = self._store.shown(bot_id)
        return None if container is None else container.status

    def require_container(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus:
        self._read("require_container", bot_id, deadline)
        return (self._store.shown(bot_id) or self._require(bot_id)).status

    def get_container_config(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerDefinition:
        self._read("get_container_config", bot_id, deadline)
        container = self._store.shown(bot_id) or self._require(bot_id)
        if owned_bot(container.status) is None:
            container_id = container.status.container_id
            raise ConfigNotReproducibleError("other name", bot_id=bot_id, container_id=container_id, fields="Name")
        status = container.status
        return ContainerDefinition(status.container_id, container.config, status.image_id, container.state_mount)

    def containers_of_bot(self, bot_id: str, *, deadline: Deadline | None = None) -> list[str]:
        self._read("containers_of_bot", bot_id, deadline)
        with self._store.lock:
            return [each for each, container in self._store.containers.items() if container.status.bot_id == bot_id]

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        self._read("list_managed_containers", "", deadline)
        with self._store.lock:
            managed = [each.status for each in self._store.containers.values() if each.managed]
        wanted = [status for status in managed if not states or status.state in states]
        return sorted(wanted, key=lambda status: (status.create_time_ns or 0, status.container_id))

    def _read(self, method: str, bot_id: str, deadline: Deadline | None) -> None:
        """Carry out a scripted step; waits no longer than the caller, and than a call to an engine may take."""
        deadline = deadline or Deadline()
        step = self._store.step(method, bot_id)
        if isinstance(step, Gate) and not step.wait(deadline.at_most(self._timeout_seconds)):
            raise EngineTimeoutError("the containers in memory did not answer in time")
        if isinstance(step, Exception):
            raise step
        self._store.check_there()

    def _change(
        self, method: str, bot_id: str, deadline: Deadline | None, *, gives_up: bool = False
    ) -> Operation[None]:
        """Carry out a scripted step, which takes no longer than the caller waits if the change ``gives_up``."""
        deadline = deadline or Deadline()
        deadline.check()
        step = self._store.step(method, bot_id)
        if isinstance(step, Gate):
            yield Wait(future=step.opened, deadline=deadline if gives_up else None)
            if not step.opened.done():
                deadline.check()
        if isinstance(step, Exception):
            raise step
        self._store.check_there()

    def _grace_period(self, bot_id: str, grace_seconds: int | None) -> Operation[None]:
        """Give a stubborn container its grace period."""
        container = self._find(bot_id)
        grace = self.default_grace_seconds if grace_seconds is None else grace_seconds
        if container is None or not container.stubborn or container.status.state not in RUNNING or not grace:
            return
        killed: Future[None] = Future()

        def kill() -> Future[None]:
            killed.set_result(None)
            return killed

        yield GracePeriod(future=killed, seconds=grace, rest_blocks=False, grace_seconds=grace, kill=kill)

    def _check_secrets(self, bot_id: str) -> None:
        """A bot has secrets in memory, or a directory in the root."""
        if bot_id not in self._secrets.of_bots:
            check_secrets_directory(self._secrets_root, bot_id)

    def _known(self, known: ContainerStatus | None) -> Container | None:
        """The container that the caller knows, if it is still there and in that state."""
        container = None if known is None else self._store.containers.get(known.container_id)
        return container if container is not None and known and container.status.state is known.state else None

    def _find(self, bot_id: str) -> Container | None:
        container = self._store.named(bot_id)
        if container is not None and not container.managed:
            raise NameInUseUnmanagedError("the name is held by a container that this service did not make")
        shown = self._store.shown(bot_id)
        if container is None and shown is not None:
            raise ContainerNameMismatchError.of(bot_id, shown.status.container_id, shown.status.name)
        return container

    def _require(self, bot_id: str) -> Container:
        container = self._find(bot_id)
        if container is None:
            raise ContainerNotFoundError("the bot has no container; create one first", bot_id=bot_id)
        return container

    def _run(self, container: Container) -> None:
        status = container.status
        if status.state in (ContainerState.PAUSED, ContainerState.REMOVING, ContainerState.DEAD):
            raise InvalidStateError(f"the container is {status.state.value}", bot_id=status.bot_id)
        self._check_secrets(status.bot_id)
        if container.config.command[:1] == (NO_PROGRAM,):
            text = f'exec: "{NO_PROGRAM}": executable file not found'
            self._store.set(container, exit_reason=ExitReason.START_FAILED, error=text)
            raise CommandNotFoundError(text, bot_id=status.bot_id)
        self._store.set(
            container,
            state=ContainerState.RUNNING,
            start_time_ns=self._store.now_ns(),
            finish_time_ns=None,
            exit_code=None,
            exit_reason=None,
            error="",
            last_exit=_last_exit(status),
        )

    def _end(self, container: Container, grace_seconds: int | None) -> None:
        """A stubborn program is killed, and so is any if the grace period is 0. Others exit on their stop signal."""
        if container.status.state in RUNNING:
            self._store.set(
                container,
                state=ContainerState.EXITED,
                finish_time_ns=self._store.now_ns(),
                exit_code=137 if grace_seconds == 0 or container.stubborn else 143,
                exit_reason=ExitReason.KILLED,
                health=None,
            )


def _last_exit(status: ContainerStatus) -> LastExit | None:
    if status.exit_code is None or status.exit_reason is None or status.finish_time_ns is None:
        return status.last_exit
    return LastExit(status.exit_code, status.exit_reason, status.finish_time_ns)
