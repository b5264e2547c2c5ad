"""The file that holds the TCP listeners' bearer token."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from container_manager.rpc.startup_error import StartupError

_MIN_TOKEN_LENGTH = 16


def read_or_make_token(path: Path) -> str:
    """The token in ``path``; a new one is written there, mode 0600, when there is no such file.

    Raises :class:`StartupError` for a file that others may read, that is not this user's, or that holds no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return _read_token(path)
    except FileNotFoundError:
        raise StartupError(
            f"the token file {path} cannot be made: there is no directory {path.parent}; "
            "make it first, or choose another --token-file"
        ) from None
    except OSError as exc:
        raise StartupError(f"the token file {path} cannot be made: {exc.strerror}") from exc
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def _read_token(path: Path) -> str:
    if path.is_symlink():
        raise StartupError(f"the token file {path} is a symbolic link, which is never followed")
    try:
        # Not blocking, for what turns out to be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, errors="replace") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise StartupError(f"the token file {path} must be a file of this user's with mode 0600")
            token = file.read().strip()
    except OSError as exc:
        raise StartupError(f"the token file {path} cannot be read: {exc.strerror}") from exc
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise StartupError(f"the token file {path} must hold one line of at least {_MIN_TOKEN_LENGTH} ASCII characters")
    return token
