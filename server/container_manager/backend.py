"""The interface to what runs the containers. Everything above a backend knows this module and no backend.

A backend is a package in :mod:`container_manager.backends`, and ``cli/serve.py`` chooses it. Values are the domain's
(:mod:`container_manager.model`), errors are those of :mod:`container_manager.errors`; each method names the ones that
its callers rely on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from container_manager.backend_features import Feature as Feature
from container_manager.backend_logs import ContainerLog
from container_manager.backend_maintenance import Maintenance, States
from container_manager.backend_provisioning import Actions, Files, Secrets
from container_manager.deadline import Deadline
from container_manager.model import (
    ContainerConfig,
    ContainerDefinition,
    ContainerState,
    ContainerStatus,
    DiskUse,
    HealthStatus,
    PortBinding,
    RawSample,
)
from container_manager.operation import Operation

CallObserver = Callable[[str, str, int, float], None]
"""Receives each call that a backend makes to an engine: the operation, its outcome, its start in nanoseconds since the
epoch, and its duration in seconds. Called from any thread."""
CALL_OUTCOMES = ("ok", "not_found", "rejected", "timeout", "unavailable", "denied", "cancelled", "error")
PULL = "pull_image"
"""The operation of a pull."""


class Created(NamedTuple):
    """The outcome of a create."""

    container_id: str
    status: ContainerStatus | None = None
    """The new container's status, inspected after it was made; ``None``: not known."""


class Lifecycle(Protocol):
    """The seven operations on bots' containers, for worker threads.

    Reads and :meth:`ping` are ordinary methods. The changes are operations (:mod:`container_manager.operation`): what
    may take long, such as a pull, a grace period or a name that is still held, is a wait, which costs no thread. A
    grace period is a :class:`~container_manager.operation.GracePeriod`, which another call may end early.

    Callers pass ids, request ids, configurations and grace periods that :mod:`container_manager.validation` accepts.
    Operations on one bot may overlap; the backend then decides, and the caller avoids it. ``deadline`` bounds reads and
    waits; a start, stop, restart or remove that has reached the backend runs to its end. Each method raises the errors
    of the RPC with its name, as ``container_manager.proto`` lists them.

    ``known`` is the bot's container as the caller saw it a moment ago. The backend may act on that container without
    looking the bot up, and looks up when it is gone or is not in that state; or ignores it. Start, stop, restart and
    remove return the id of the container that they acted on, empty for none.

    A bot's container has the name :func:`~container_manager.model.container_name`. Where a bot has none, but containers
    of other names that were made for it, reads show the newest of these. Every change then raises
    :class:`~container_manager.errors.ContainerNameMismatchError` and touches none.
    """

    @property
    def default_grace_seconds(self) -> int:
        """The grace period of a call that gives none."""

    def ping(self, *, deadline: Deadline | None = None) -> None:
        """Return if the backend answers."""

    def remove_leftovers(self) -> None:
        """Remove what interrupted changes have left beside containers. Called once; may wait for the backend."""

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
        """Create the bot's container. A failed create, or one past its deadline, leaves nothing behind.

        ``absent``: the caller saw a moment ago that the bot has no container; the backend may skip looking.
        ``image_id``: the image to take, which is there, whatever ``config.image`` names by now.
        ``state_mount``: where the bot's state is to appear in the container; empty: where it does in every new one.
        """

    def start_container(
        self, bot_id: str, *, known: ContainerStatus | None = None, deadline: Deadline | None = None
    ) -> Operation[str]:
        """Start the bot's container, once; leave a running one as it is."""

    def stop_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        """Stop the bot's container; leave a stopped or missing one as it is. ``None``: the default grace period."""

    def restart_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        """Stop the bot's container and start it again."""

    def remove_container(
        self,
        bot_id: str,
        grace_seconds: int | None = None,
        *,
        known: ContainerStatus | None = None,
        deadline: Deadline | None = None,
    ) -> Operation[str]:
        """Stop and remove the bot's container; return when it is gone. A missing one is gone."""

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        """The status of the bot's container; ``None`` when it has none."""

    def require_container(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus:
        """The status of the bot's container.

        Raises :class:`~container_manager.errors.ContainerNotFoundError` when it has none, and
        :class:`~container_manager.errors.NameInUseUnmanagedError` when only a foreign container has its name.
        """

    def get_container_config(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerDefinition:
        """What would make the bot's container again: a create with it gives a container of the same settings.

        What the container has from its image is left out. Raises the errors of :meth:`require_container`, and
        :class:`~container_manager.errors.ConfigNotReproducibleError` for a container that no create could have made.
        """

    def containers_of_bot(self, bot_id: str, *, deadline: Deadline | None = None) -> list[str]:
        """The ids of all containers that may use the bot's directories: every one with its id or its name."""

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        """The status of every managed container in one of ``states`` (none given: any), by create time, then id."""


class Notice(NamedTuple):
    """Something happened to a container. It says only where to look; what is so comes from an inspection."""

    container_id: str
    gone: bool
    """The container does not exist any more; ids never come back."""
    managed: bool
    """It carries the product's label. False: unknown."""
    time_ns: int = 0
    """When it happened, in nanoseconds since the epoch on the backend's clock; 0: unknown."""
    created: bool = False
    """It was made, and nothing else happened: a caller that has inspected it has seen all of this."""
    renamed: bool = False
    """It was given another name."""


class Listed(NamedTuple):
    """What a backend's list says of a container."""

    status: ContainerStatus
    """A short status; fields that only an inspection knows have defaults."""
    running_seconds: float = 0.0
    """It is running, and its process has run without a break for at least this long; 0: unknown."""
    health: HealthStatus | None = None
    """With ``running_seconds``: as an inspection has it."""
    ports: tuple[PortBinding, ...] = ()
    """With ``running_seconds``: as an inspection has them."""


class Source(Protocol):
    """Feeds the live view, on the event loop. Each method raises one of the ``Engine…Error`` kinds."""

    async def list(self, container_id: str = "") -> list[Listed]:
        """Every managed container, or one."""

    async def inspect(self, container_id: str) -> ContainerStatus | None:
        """The full status of a managed container; ``None`` when it is gone or not managed."""

    async def inspect_bot(self, bot_id: str) -> ContainerStatus | None:
        """The full status of the bot's container, as :meth:`Lifecycle.get_container_status` has it."""

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Notices from a little before now on, without end; the iterator raises when the backend is lost."""


class Backend(Protocol):
    """What runs the containers. Made anywhere, used and closed on one event loop."""

    @property
    def name(self) -> str:
        """A short name, such as ``docker``."""

    async def version(self) -> str:
        """The backend's own version, such as ``28.5.1``. Raises one of the ``Engine…Error`` kinds."""

    @property
    def limitations(self) -> Mapping[Feature, str]:
        """Features that this backend does not have, each with the reason, as a sentence for the caller."""

    @property
    def lifecycle(self) -> Lifecycle:
        """The operations, for worker threads."""

    @property
    def source(self) -> Source:
        """What the live view follows, for the event loop."""

    @property
    def secrets(self) -> Secrets:
        """Bots' secrets, for worker threads."""

    @property
    def actions(self) -> Actions:
        """Programs inside bots' containers, for worker threads. Not called when :attr:`limitations` has ``ACTIONS``."""

    @property
    def files(self) -> Files:
        """Bots' files, for worker threads. None is put when :attr:`limitations` has ``FILES``."""

    @property
    def maintenance(self) -> Maintenance:
        """What else maintenance needs, for worker threads."""

    @property
    def states(self) -> States | None:
        """Bots' states as a whole, for worker threads; ``None``: bots keep none."""

    def log(self, container_id: str) -> ContainerLog:
        """The log of a container. Not called when :attr:`limitations` has ``LOGS``."""

    async def sample(self, container_id: str) -> RawSample | None:
        """A container's resource counters now; ``None`` when it does not run, or when they cannot be had in time.

        Not called when :attr:`limitations` has ``STATS``.
        """

    async def disk_use(self) -> Mapping[str, DiskUse]:
        """What every managed container occupies on the disk, by its id. Takes seconds, and much of the disk's time.

        Raises one of the ``Engine…Error`` kinds.
        """

    async def close(self) -> None:
        """Close all connections. Operations that worker threads carry out end by themselves."""
