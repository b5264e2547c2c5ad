"""The directories of one bot on the host: its secrets, and its state where a state root is configured.

Both are found by bot id below their root, and a link in the bot's place is never followed: it could show one bot the
secrets of another.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from container_manager.errors import ContainerManagerError, SecretsUnavailableError, StateUnavailableError

# The user "node" of the bot images, the official OpenClaw image and ours alike.
STATE_OWNER_UID = 1000


@dataclass(frozen=True)
class RootDirectory:
    """A directory that holds one directory per bot."""

    path: Path
    """As this process sees it."""
    engine_path: Path
    """The same directory as the engine sees it; another path when this process runs in a container."""

    def source(self, bot_id: str) -> str:
        """The bot's directory, as the engine is told to mount it."""
        return str(self.engine_path / bot_id)


def check_secrets_directory(root: RootDirectory, bot_id: str) -> None:
    """Raise :class:`SecretsUnavailableError` unless the bot has a real directory below ``root``."""
    _check(root, bot_id, "secrets", SecretsUnavailableError)


def ensure_state_directory(root: RootDirectory, bot_id: str) -> None:
    """Make the bot's state directory, mode 0700, owned by the image's user, unless it is there.

    Raises :class:`StateUnavailableError` when something else is in its place or it cannot be made.
    """
    path = root.path / bot_id
    try:
        path.mkdir(mode=0o700)
        try:
            if os.geteuid() == 0:
                os.chown(path, STATE_OWNER_UID, STATE_OWNER_UID, follow_symlinks=False)
        except OSError:
            path.rmdir()
            raise
    except FileExistsError:
        _check(root, bot_id, "state", StateUnavailableError)
    except OSError as exc:
        raise StateUnavailableError(
            f"the state directory {path} cannot be made: {exc.strerror}", bot_id=bot_id
        ) from exc


def _check(root: RootDirectory, bot_id: str, what: str, error: type[ContainerManagerError]) -> None:
    path = root.path / bot_id
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise error(f"the {what} directory {path} does not exist; make it first", bot_id=bot_id) from None
    except OSError as exc:
        raise error(f"the {what} directory {path} cannot be read: {exc.strerror}", bot_id=bot_id) from exc
    if stat.S_ISLNK(mode):
        raise error(f"the {what} directory {path} is a symbolic link, which is never followed", bot_id=bot_id)
    if not stat.S_ISDIR(mode):
        raise error(f"{path} is not a directory", bot_id=bot_id)
