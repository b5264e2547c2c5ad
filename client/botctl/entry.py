"""Where ``botctl`` begins: before click and rich are known to be there."""

from __future__ import annotations

import os
import sys

_OF_THE_EXTRA = ("click", "rich")


def main() -> None:
    """Run ``botctl``; without its extra, say in one line what to install."""
    # gRPC's own log would come between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
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
