"""Reads the files that options name. Each error is one line that says what to do."""

from __future__ import annotations

import stat
from pathlib import Path

from botctl.exit_codes import ExitCode, Failure


def read_input_file(what: str, name: str, *, instead: str) -> bytes:
    """The content of the file. ``instead``: what to do if there is none. Raises :class:`Failure`."""
    path = Path(name)
    try:
        # Reading a pipe would block.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Failure(f"the {what} {name} is not a file; {instead}", ExitCode.USAGE)
        return path.read_bytes()
    except FileNotFoundError:
        raise Failure(f"there is no {what} {name}; {instead}", ExitCode.USAGE) from None
    except PermissionError:
        raise Failure(
            f"the {what} {name} cannot be read by this user; ask its owner for a copy, or use sudo",
            ExitCode.NOT_ALLOWED,
        ) from None
    except (OSError, ValueError) as exc:
        raise Failure(f"the {what} {name} cannot be read: {exc}; {instead}", ExitCode.USAGE) from None
