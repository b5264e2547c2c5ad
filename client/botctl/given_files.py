"""Reading files that options name: what can be wrong with one is a line that says what to do."""

from __future__ import annotations

import stat
from pathlib import Path

from botctl.outcomes import ExitCode, Failure


def content_of(what: str, name: str, *, instead: str) -> bytes:
    """What the file holds. Raises :class:`Failure`; ``instead``: what to do where there is none."""
    path = Path(name)
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise Failure(f"the {what} {name} is no file; {instead}", ExitCode.USAGE)
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
