"""What a backend may be unable to do. :mod:`container_manager.backend` has the rest of the interface."""

from __future__ import annotations

from enum import Enum


class Feature(Enum):
    """What a backend may be unable to do as a whole."""

    LOGS = "logs"
    STATS = "stats"
    ACTIONS = "actions"
    """Programs inside bots' containers."""
    SECRETS_RELOAD = "secrets-reload"
    """Changed secrets in a container that runs: without this, they are there when its process starts again."""
    FILES = "files"
    """Files that are put into bots' states."""
    BACKUPS = "backups"
    """Copies of bots' states: without this, none is backed up or restored, and an upgrade makes no copy."""
    PAUSE = "pause"
    """Freezing a bot: without this, a backup has to stop a bot that runs."""
