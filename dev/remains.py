"""What an engine leaves behind when it dies: processes, mounts, control groups, sockets."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_SHIM_SOCKETS = Path("/run/containerd/s")


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """Which boot of this machine this is: after another, ids of processes mean others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` holds; False when it still does not after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def sweep(runtime: Path, data_root: Path) -> None:
    """End every process, mount, control group and socket of an engine that no longer runs.

    `runtime` is the directory that the engine's helpers (containerd, its shims) have on their command lines, and
    its name that of the control group of its containers.
    """
    sockets = _shim_sockets(runtime)
    end_processes(runtime)
    # With remapped users, containerd has a directory of its own beside it, with the ids in its name.
    runtimes = [runtime, *runtime.parent.glob(f"{runtime.name}.*")]
    _unmount(*runtimes, data_root)
    remove_groups(runtime.name)
    for path in sockets:
        path.unlink(missing_ok=True)
    for directory in runtimes:
        shutil.rmtree(directory, ignore_errors=True)


def end_processes(runtime: Path) -> None:
    """SIGKILL the engine's helpers and its containers' processes, until none is left: one may just be starting."""

    def left() -> set[int]:
        return {pid for pid in helpers(runtime) | _members(runtime.name) if start_ticks(pid) is not None}

    def gone() -> bool:
        for pid in left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left()

    if not wait_for(gone, 10):
        raise RuntimeError(f"processes that do not end: {sorted(left())}")


def helpers(runtime: Path, program: str = "") -> set[int]:
    """The live processes that the engine with this runtime directory started for itself: all, or those of `program`."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            name = os.fsdecode(arguments[0].rpartition(b"/")[2])
            ours = any(argument.startswith(os.fsencode(f"{runtime}/")) for argument in arguments[1:])
            if ours and (name == program if program else name.startswith(("containerd", "docker", "runc"))):
                found.add(int(entry.parent.name))
    return {pid for pid in found if start_ticks(pid) is not None}


def remove_groups(name: str) -> list[Path]:
    """Remove the control group `name` and those below it, in every hierarchy; return those that have processes yet."""
    for group in _groups(name):
        with contextlib.suppress(OSError):
            group.rmdir()
    return _groups(name)


def _shim_sockets(runtime: Path) -> list[Path]:
    """The sockets of this engine's shims, which lie in a directory that all engines share.

    Each container's bundle, below `runtime`, names its shim's in the file `address`.
    """
    addresses = [file.read_text(encoding="utf-8").strip() for file in runtime.glob("x/containerd/**/address")]
    paths = [Path(address.removeprefix("unix://")) for address in addresses]
    return [path for path in paths if path.parent == _SHIM_SOCKETS]


def _groups(name: str) -> list[Path]:
    """The control groups `name` and below, children first, in every hierarchy (v1, hybrid or v2)."""
    tops = [_CGROUPS / name, *_CGROUPS.glob(f"*/{name}")]
    groups = [Path(root) for top in tops for root, _, _ in os.walk(top)]
    return sorted(groups, key=lambda group: len(group.parts), reverse=True)


def _members(name: str) -> set[int]:
    found: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (group / "cgroup.procs").read_text(encoding="ascii").split()}
    return found


def _unmount(*directories: Path) -> None:
    """Unmount everything below `directories`, and the bind that the engine makes of its data root on itself."""
    tops = [os.path.realpath(directory) for directory in directories]
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        # Fields of proc(5): 4 the root within the file system, 5 the mount point; blanks are octal escapes.
        root, point = (field.encode().decode("unicode_escape") for field in line.split()[3:5])
        if any(point.startswith(f"{top}/") or (point == top and root != "/") for top in tops):
            mounts.append(point)
    for point in reversed(mounts):
        if subprocess.run(["umount", point], capture_output=True, check=False).returncode:
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
