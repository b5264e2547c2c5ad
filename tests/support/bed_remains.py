"""What is left of a swarm of machines on this one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dev.swarm.machine import processes

_LOGS = {"dockerd.log", "switch.log", "registry.yml"}


def runtime_of(directory: Path) -> Path:
    """Where a bed that is up, with this directory, has its sockets."""
    return (directory / "runtime").readlink()


def running(words: str) -> set[int]:
    """The processes of this machine and of all containers on it with these words on their command lines."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words in entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.add(int(entry.parent.name))
    return found


def remains(directory: Path, runtime: Path) -> list[str]:
    """The processes, groups, mounts, interfaces and files of the bed that had these two directories."""
    left = [f"process {pid}" for pid in processes(f"{runtime}/")]
    groups = [Path("/sys/fs/cgroup", runtime.name), *Path("/sys/fs/cgroup").glob(f"*/{runtime.name}")]
    left += [f"group {group}" for group in groups if group.exists()]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    left += [f"mount {line}" for line in mounts if runtime.name in line or str(directory) in line]
    left += [f"interface {path}" for path in Path("/sys/class/net").iterdir() if path.name in {"n1", "n2", "n3", "br0"}]
    left += [f"directory {runtime}"] if runtime.exists() else []
    for parent, directories, files in os.walk(directory):  # which takes it that they vanish meanwhile
        left += [f"file {parent}/{name}" for name in files if name not in _LOGS]
        left += [f"link {parent}/{name}" for name in directories if Path(parent, name).is_symlink()]
    return left


def watcher_of(runtime: Path) -> int:
    """The process that clears the bed when its owner has died."""
    (pid,) = running(f"dev.swarm.watcher {runtime}")
    return pid
