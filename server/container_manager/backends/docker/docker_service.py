"""The lifecycle of bots' containers as a Python class, for callers without gRPC."""

from __future__ import annotations

from collections.abc import Collection

from container_manager.backend import CallObserver
from container_manager.backends.docker.lifecycle import DockerLifecycle
from container_manager.config import BackendConfig
from container_manager.deadline import Deadline
from container_manager.model import ContainerConfig, ContainerState, ContainerStatus
from container_manager.operation import carry_out
from container_manager.validation import check_bot_id, check_config_counts, check_create, check_grace_seconds


class DockerService:
    """The seven operations, synchronous and usable from any number of threads; no gRPC in sight.

    It validates what it is given, and leaves the rest to :class:`DockerLifecycle`, whose module draws the states. Every
    method raises :class:`~container_manager.errors.ContainerManagerError` and nothing else on purpose. A ``deadline``
    bounds reads and waits; a start, stop, restart or remove that has reached the engine runs to its end.
    """

    def __init__(self, config: BackendConfig, observer: CallObserver | None = None) -> None:
        """``observer`` receives each call to the engine."""
        self._lifecycle = DockerLifecycle(config, observer)

    def close(self) -> None:
        """Close idle connections to the engine. No method may be called afterwards."""
        self._lifecycle.close()

    def ping(self, *, deadline: Deadline | None = None) -> None:
        """Return if the engine answers."""
        self._lifecycle.ping(deadline=deadline)

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
        check_bot_id(bot_id)
        config = config or ContainerConfig()
        check_config_counts(config)
        check_create(request_id, config)
        created = carry_out(self._lifecycle.create_container(bot_id, config, request_id=request_id, deadline=deadline))
        return created.container_id

    def start_container(self, bot_id: str, *, deadline: Deadline | None = None) -> None:
        """Start the bot's container; a running one is left as it is. One start reaches the engine, never a second.

        Raises :class:`ContainerNotFoundError`, :class:`StartFailedError` and its kinds with the engine's text,
        :class:`InvalidStateError` when paused or being removed, :class:`SecretsUnavailableError`,
        :class:`StateUnavailableError`.
        """
        check_bot_id(bot_id)
        carry_out(self._lifecycle.start_container(bot_id, deadline=deadline))

    def stop_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container; a stopped or missing one is left as it is.

        Its stop signal first, then SIGKILL after ``grace_seconds``: 0 to 86400, rounded up to whole seconds; ``None``:
        the configured default.
        """
        check_bot_id(bot_id)
        carry_out(self._lifecycle.stop_container(bot_id, _whole(grace_seconds), deadline=deadline))

    def restart_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container as :meth:`stop_container` does and start it again. Raises the errors of start."""
        check_bot_id(bot_id)
        carry_out(self._lifecycle.restart_container(bot_id, _whole(grace_seconds), deadline=deadline))

    def remove_container(
        self, bot_id: str, grace_seconds: float | None = None, *, deadline: Deadline | None = None
    ) -> None:
        """Stop the bot's container as :meth:`stop_container` does, and remove it with its anonymous volumes.

        Returns when it is gone from the engine; a missing one is gone. Secrets and state directories are kept.
        """
        check_bot_id(bot_id)
        carry_out(self._lifecycle.remove_container(bot_id, _whole(grace_seconds), deadline=deadline))

    def get_container_status(self, bot_id: str, *, deadline: Deadline | None = None) -> ContainerStatus | None:
        """The status of the bot's container; ``None`` when it has none, or only a foreign one has its name."""
        check_bot_id(bot_id)
        return self._lifecycle.get_container_status(bot_id, deadline=deadline)

    def list_managed_containers(
        self, states: Collection[ContainerState] = (), *, deadline: Deadline | None = None
    ) -> list[ContainerStatus]:
        """The status of every container labelled as managed, orphans included, by create time, then id.

        ``states`` narrows it; empty means all. A container that cannot be inspected shows what the engine's list says.
        """
        return self._lifecycle.list_managed_containers(states, deadline=deadline)


def _whole(grace_seconds: float | None) -> int | None:
    return None if grace_seconds is None else check_grace_seconds(grace_seconds)
