"""The part of a backend's interface that concerns bots' secrets and files, and programs in their containers.

:mod:`container_manager.backend` has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from container_manager.model import LogSource, SecretInfo

OnOutput = Callable[[LogSource, bytes], None]
"""Receives each piece of a program's output as it comes, in the worker's thread."""


class Secrets(Protocol):
    """Bots' secrets, where their containers find them: synchronous, for worker threads.

    Callers pass what :mod:`container_manager.provisioning.requests` accepts, one operation of a bot at a time. A bot
    needs no container. A secret appears with its whole content or not at all, also when the process is killed; an
    operation that was broken off is completed by the same operation. Contents appear in no error and no log.

    Each method raises :class:`~container_manager.errors.SecretsUnavailableError` when the secrets cannot be read or
    changed, :class:`~container_manager.errors.CapacityExceededError` when there is no room for them, and the
    ``Engine…Error`` kinds where the backend itself keeps them.
    """

    def put_secrets(
        self, bot_id: str, secrets: Mapping[str, bytes], *, replace_all: bool = False, run: int | None = None
    ) -> None:
        """Write these secrets, by name; with ``replace_all``, remove all others.

        ``run`` identifies the run of the bot's process, if it runs. A gateway token that is replaced or removed is kept
        for :meth:`token_of_run`, since that process has loaded it.
        """

    def token_of_run(self, bot_id: str, run: int) -> bytes:
        """The gateway token that this run of the bot's process last loaded, if it is gone; else empty."""

    def forget_token(self, bot_id: str) -> None:
        """Remove what is kept for :meth:`token_of_run`."""

    def may_keep_token(self, bot_id: str) -> bool:
        """Whether :meth:`forget_token` may have something to do."""

    def read_secrets(self, bot_id: str) -> Mapping[str, bytes]:
        """The bot's secrets with their contents, for a backup that encrypts them; none for a bot without any."""

    def list_secrets(self, bot_id: str) -> list[SecretInfo]:
        """The bot's secrets by name; none for a bot that never had any."""

    def delete_secrets(self, bot_id: str, names: Collection[str], *, run: int | None = None) -> None:
        """Remove these secrets; those that do not exist are ignored. ``run``: as for :meth:`put_secrets`."""

    def delete_all_secrets(self, bot_id: str) -> None:
        """Remove everything of the bot's secrets. The caller has checked that the bot has no container."""

    def remove_leftovers(self) -> None:
        """Remove what killed processes have left. Called once, at the start; may overlap any other operation."""


class ActionResult(NamedTuple):
    """How a program that ran inside a container ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Actions(Protocol):
    """Programs inside bots' containers: synchronous, for worker threads."""

    def run(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        seconds: float,
        on_output: OnOutput | None = None,
    ) -> ActionResult:
        """Run a program inside a running container, as the container's user, and wait for its end.

        ``stdin`` reaches the program's standard input alone. ``seconds``: after this time,
        :class:`~container_manager.errors.EngineTimeoutError`; the program may still run. The result
        has the first 64 KiB of each output, and ``on_output`` receives all of it. A program that is not there ends with
        an exit code too, as in a shell.

        Raises :class:`~container_manager.errors.InvalidStateError` for a container that does not run, and
        :class:`~container_manager.errors.ContainerNotFoundError` for one that is gone. A backend that can run programs
        in some containers only raises :class:`~container_manager.errors.NotSupportedByBackendError` for others.
        """


class Files(Protocol):
    """The files that bots keep, as :class:`Secrets` are: with the same rules, and ``StateUnavailableError``."""

    def put_files(self, bot_id: str, files: Mapping[str, bytes]) -> None:
        """Write these files, by their paths below the bot's state directory."""

    def delete_state(self, bot_id: str) -> None:
        """Remove all files of the bot. The caller has checked that the bot has no container.

        Raises :class:`~container_manager.errors.NotSupportedByBackendError`, with what the operator can do, for files
        that the backend does not reach.
        """

    def remove_leftovers(self) -> None:
        """As :meth:`Secrets.remove_leftovers`."""
