"""The part of a backend's interface that upgrades, backups and restores need: whole states, pauses and images.

:mod:`container_manager.backend` has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from container_manager.bot_directories import BotUser
from container_manager.operation import Operation

Progress = Callable[[int], None]
"""Receives the number of bytes that are done."""


class Pulled(NamedTuple):
    """How far the pull of an image is."""

    downloaded_bytes: int
    total_bytes: int
    """Of the layers that are known so far."""


OnPull = Callable[[Pulled], None]
"""Receives how far a pull is, now and then."""


@dataclass
class Copied:
    """What was copied."""

    entries: int = 0
    size_bytes: int = 0
    """The data of the files; holes do not count."""
    left_out: list[str] = field(default_factory=list)
    """Paths of sockets, pipes and devices."""


@dataclass(frozen=True)
class ImageFacts:
    """What a backend knows of an image."""

    digests: tuple[str, ...] = ()
    """References by content, from its registries."""
    derived_paths: tuple[str, ...] = ()
    """Paths below the state that the image's programs make anew when they are missing, as the image declares."""


class Maintenance(Protocol):
    """What else maintenance needs of a container: synchronous, for worker threads. Raises ``Engine…Error`` kinds."""

    def pause(self, container_id: str) -> bool:
        """Freeze all processes of a container; False: it does not run, is paused already or is gone.

        Not called when the backend's limitations have ``PAUSE``.
        """

    def unpause(self, container_id: str) -> None:
        """Let them go on; no effect on a container that is not paused or is gone."""

    def prepare_image(self, image: str, on_pull: OnPull = lambda _: None) -> Operation[str]:
        """The id of the image that a create with ``image`` would take; pulls it as a create would.

        Raises the errors of a create for its image. A backend that cannot tell how far a pull is calls no ``on_pull``.
        """

    def image_facts(self, image_id: str) -> ImageFacts:
        """Of an image that is gone, nothing is known."""


REMAKEABLE = "copy-"
"""How the names of those copies begin that nobody needs after the operation that has made them."""


class States(Protocol):
    """Bots' states, and copies beside them that no bot sees: synchronous, for worker threads.

    Callers hold the bot's turn. A bot may change its state while it is copied, unless it is paused or stopped. A copy
    has its ``name`` only once it is complete and on the disk, also when the process is killed.

    Each method raises :class:`~container_manager.errors.StateUnavailableError` when a state or copy cannot be read or
    changed, :class:`~container_manager.errors.CapacityExceededError` when there is no room, and
    :class:`~container_manager.errors.StateTooLargeError` when a state has too many or too deeply nested files.
    """

    def owner(self) -> BotUser:
        """The user that bots' files belong to, as this host numbers it. Raises ``Engine…Error`` kinds, too."""

    def has_state(self, bot_id: str) -> bool:
        """Whether the bot has a state, be it empty."""

    def copy_aside(
        self, bot_id: str, name: str, *, without: Collection[str] = (), on_progress: Progress = lambda _: None
    ) -> Copied:
        """Copy the bot's state. ``without``: paths below it that are left out.

        A copy called ``copy-…`` is not put on the disk: its operation makes it anew after a kill.
        """

    def new_aside(self, bot_id: str, name: str) -> AbstractContextManager[int]:
        """An empty directory, open, that becomes the copy ``name`` at the end of the block; removed if that raises."""

    def opened_aside(self, bot_id: str, name: str) -> AbstractContextManager[int]:
        """A copy as an open directory."""

    def has_aside(self, bot_id: str, name: str) -> bool:
        """Whether there is a copy of this name."""

    def exchange(self, bot_id: str, *, put: str, keep: str, insists: bool = True) -> None:
        """Make the copy ``put`` the bot's state, and the state that the bot had, if any, the copy ``keep``.

        ``insists``: False where ``put`` matters more: a state that cannot be kept is given up, and the log says so.
        Has no effect when ``put`` is not there: so a call that was killed is completed by the same call. Whether there
        was such a call, the copy ``keep`` tells.
        """

    def discard(self, bot_id: str, name: str) -> None:
        """Remove a copy, and what a killed process has left of one."""

    def set_leftovers_aside(self, owner: str, busy: Collection[str]) -> None:
        """Take away what killed processes have left: copies that are not complete, and those called ``copy-…``.

        ``owner``: only those with this between dashes in their names, since other services may use the same root.
        ``busy``: bots whose copies are still needed. Called once, before any other method. Does not wait for the
        removal of what may be large: :meth:`~container_manager.backend_provisioning.Files.remove_leftovers` removes it.
        """
