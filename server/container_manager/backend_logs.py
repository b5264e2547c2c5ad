"""The part of a backend's interface that streams of logs need.

:mod:`container_manager.backend` has the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from container_manager.errors import EngineUnavailableError, InvalidStateError
from container_manager.model import RawEntry

Batches = AsyncGenerator[list[RawEntry], None]


class LogUnreadableError(EngineUnavailableError):
    """The backend answered, but could not read the container's log to its end."""


class LogNotDecodableError(InvalidStateError):
    """The backend's answer is not in the form of a log, such as that of a container with a terminal."""


class ContainerLog(Protocol):
    """One container's log, on the event loop: entries in the order of the log, whatever their times.

    Cursors are made above, from the entries alone; so all readings give the same entries in the same order, from the
    oldest one that is kept.

    Methods raise :class:`~container_manager.errors.ContainerNotFoundError` for a container that is gone,
    :class:`~container_manager.errors.InvalidStateError` for a log that cannot be read in its state,
    :class:`~container_manager.errors.NodeUnavailableError` while nothing is heard of the machine that has it,
    :class:`LogNotDecodableError`, :class:`LogUnreadableError` and the other ``Engine…Error`` kinds.
    """

    was_opened: bool
    """The backend has answered with the log at least once."""

    async def runs(self) -> bool:
        """Whether the container's process runs just now."""

    def existing(self, tail: int | None = None, until_ns: int | None = None) -> Batches:
        """The entries that exist now, or the last ``tail`` of them, oldest first, in batches of at least one.

        An entry that the backend has but cannot read counts as one of the ``tail``. It ends the reading or is left out,
        and with an error may take entries before it along. ``until_ns``: a later entry may end the reading.
        """

    def follow(self, tail: int | None = None, *, known: int = 0) -> Batches:
        """As :meth:`existing`, and then the entries that follow, until the process ends.

        An empty batch means that there was nothing new for a while. May end earlier, when the backend cannot be sure
        that the next entry is the next one of the log; then read the existing ones. ``known``: among so many entries at
        the start, equal pieces of a line are expected.
        """
