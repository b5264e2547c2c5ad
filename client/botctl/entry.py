"""Where ``botctl`` begins: before click and rich are known to be there."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

_OF_THE_EXTRA = ("click", "rich")


def main() -> None:
    """Run ``botctl``; without its extra, say in one line what to install."""
    # gRPC's own log would come between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # As Ctrl-C: whatever hides the cursor shows it again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _prepare_outputs()
    try:
        from botctl.program import botctl
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in _OF_THE_EXTRA:
            raise
        sys.exit(f"botctl needs {missing}, which is not installed: pip install 'botmaker-container-manager[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    botctl(prog_name="botctl")


def _prepare_outputs() -> None:
    # Closed by the caller, as in >&-.
    null = Path(os.devnull)
    sys.stdout = sys.stdout or null.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or null.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        # A name that an old locale cannot write is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
