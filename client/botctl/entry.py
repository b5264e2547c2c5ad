"""The entry point of ``botctl``. It runs even if click and rich are not installed."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

_EXTRA_PACKAGES = ("click", "rich")


def main() -> None:
    """Runs ``botctl``. Without its extra, prints one line that says what to install."""
    # Keep gRPC's own log out of the output.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Exit like Ctrl-C, so that live tables restore the cursor.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _prepare_outputs()
    for package in _EXTRA_PACKAGES:
        # Before the run: most commands need rich only for their first line of output.
        if find_spec(package) is None:
            sys.exit(
                f"botctl needs {package}, which is not installed: install the extra 'cli', as in pip install '.[cli]'"
            )
    try:
        from botctl.program import botctl
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        botctl(prog_name="botctl")
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else 0)


def _end(code: int) -> NoReturn:
    """Exits without taking the interpreter apart, which would be a tenth of a short run's CPU time."""
    for stream in (sys.stdout, sys.stderr):
        # Standard output was flushed before, when its errors could be told.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _prepare_outputs() -> None:
    # They are None if the caller has closed them, as with >&-.
    null = Path(os.devnull)
    sys.stdout = sys.stdout or null.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or null.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        # Do not fail on text that the locale cannot encode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
