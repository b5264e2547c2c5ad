"""Gateway tokens that have been replaced, but that the bot's process still uses.

A gateway that is to read its secrets anew has to be asked with the token that it has read before. These files belong to
the service, in a directory of the secrets root that no bot sees. Each has the name ``{bot_id}.{run}``, with the run of
the process that has loaded the token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from container_manager.bot_directories import BotUser
from container_manager.provisioning.descriptors import names_in, opened_directory, write_file

TOKEN_NAME = "GATEWAY_TOKEN"  # noqa: S105 - a name
KEPT_DIRECTORY = ".kept-tokens"
_MODE = 0o700
# What PutSecrets accepts.
_MOST_BYTES = 64 * 1024


class KeptTokens:
    """In the directory of a secrets root, which each method gets as an open descriptor."""

    def keep(self, bot_id: str, run: int | None, directory: int, root: int, staging: int) -> None:
        """Keep the token in the bot's ``directory`` for this run, unless one is kept for it; ``None``: nothing runs.

        Without a token there, what is kept stays: a run that has loaded it may still need it.
        """
        token = _read(TOKEN_NAME, directory)
        if not token or (run is not None and self.of_run(bot_id, run, root)):
            return
        self.forget(bot_id, root)
        if run is None:
            return
        with suppress(FileExistsError):
            os.mkdir(KEPT_DIRECTORY, _MODE, dir_fd=root)
        write_file("token", staging, token, BotUser(os.geteuid(), os.getegid()))
        with opened_directory(KEPT_DIRECTORY, root) as kept:
            os.rename("token", f"{bot_id}.{run}", src_dir_fd=staging, dst_dir_fd=kept)
            os.fsync(kept)

    def of_run(self, bot_id: str, run: int, root: int) -> bytes:
        """The token that is kept for this run; empty: none."""
        with _opened(root) as kept:
            return b"" if kept is None else _read(f"{bot_id}.{run}", kept)

    def any_were_kept(self, root: Path) -> bool:
        """Whether any may be kept, also by another process."""
        try:
            os.lstat(root / KEPT_DIRECTORY)
        except FileNotFoundError:
            return False
        except OSError:
            # The caller finds out.
            pass
        return True

    def forget(self, bot_id: str, root: int) -> None:
        """Remove what is kept of the bot."""
        with _opened(root) as kept:
            if kept is None:
                return
            for name in (name for name in names_in(kept) if name.startswith(f"{bot_id}.")):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=kept)


@contextmanager
def _opened(root: int) -> Iterator[int | None]:
    """The directory; ``None``: nothing was ever kept."""
    try:
        os.stat(KEPT_DIRECTORY, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        yield None
    else:
        with opened_directory(KEPT_DIRECTORY, root) as kept:
            yield kept


def _read(name: str, directory: int) -> bytes:
    """The content of a regular file; empty: there is none of a secret's size."""
    try:
        # Without blocking on a FIFO.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return b""
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        try:
            content = file.read(_MOST_BYTES + 1) or b""
        except OSError:
            return b""
    return content if len(content) <= _MOST_BYTES else b""
