"""Clears a bed when its owner has died: `python -m dev.swarm.watcher RUNTIME`, which the bed starts for itself."""

import os
import select
import sys
from pathlib import Path

from dev.swarm.record import Record


def main(runtime: Path) -> None:
    """Wait for the owner's end, and clear what is left."""
    record = Record.read(runtime)
    if record is None:
        return
    try:
        owner = os.pidfd_open(record.owner)
    except ProcessLookupError:
        pass
    else:
        if record.owned:
            select.select([owner], [], [])  # until it has ended
    record.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
