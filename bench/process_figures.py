"""What a process takes, as the kernel tells it (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Of one process, in bytes (smaps_rollup)."""

    rss: int
    """All pages that it has in memory, shared libraries included."""
    pss: int
    """The same, each shared page divided by the number of its users."""


def memory(pid: int) -> Memory:
    """What it holds now."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        fields[key] = int(value.split()[0]) * 1024
    return Memory(fields["Rss"], fields["Pss"])


def cpu_seconds(pid: int) -> float:
    """CPU time that it has used so far, user and system, in steps of a hundredth of a second."""
    # Counted behind the command's name, which may hold spaces (stat: utime and stime are 14 and 15).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
