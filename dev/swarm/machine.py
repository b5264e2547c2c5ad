"""A machine: one process tree in network, mount, host name and process namespaces of its own.

Nothing has a name outside of it. When its process 1 is killed, the kernel ends all its processes and removes its
mounts, network interfaces and firewall rules. What is left are files, and the control groups of its containers.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from dev.remains import start_ticks, wait_for

MARK = "BOTMAKER_SWARM_MACHINE"
"""The environment variable by which anybody finds the processes of a machine."""
_START_SECONDS = 20
_INIT = "docker-init"
# /run is empty after a boot. Of another Debian release, /usr lies over ours, as in dev/engines/within.sh.
_BOOT = f"""
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
if [ -n "$2" ]; then mount --bind "$2" "$3"; fi
if [ -n "$4" ]; then
    for path in /etc/alternatives /etc/ld.so.cache /usr; do mount --bind "$4$path" "$path"; done
fi
exec {_INIT} -s -- sleep infinity
"""


# What this process has started, whose exit codes it must take, whichever object is asked to end it.
_CHILDREN: list[subprocess.Popen[bytes]] = []
_LOCK = threading.Lock()


class SwarmError(RuntimeError):
    """A machine, an engine or the swarm did not do what was asked for, or is not in the state that a call needs."""


def processes(prefix: str) -> set[int]:
    """The live processes, as this process sees them, that were started for machines whose mark begins with `prefix`.

    The processes of containers have no mark. They end with the machine's process 1.
    """
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if any(each.startswith(f"{MARK}={prefix}".encode()) for each in entry.read_bytes().split(b"\0")):
                found.add(int(entry.parent.name))
    return {pid for pid in found if start_ticks(pid) is not None}


def kill(prefix: str) -> None:
    """SIGKILL the processes of those machines, until none is left: one may just be starting."""

    def gone() -> bool:
        for pid in processes(prefix):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not processes(prefix)

    if not wait_for(gone, _START_SECONDS):
        raise SwarmError(f"processes that do not end: {sorted(processes(prefix))}")
    with _LOCK:
        _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]


class Machine:
    """States: off -> start() -> on -> kill() -> off. `mark` names it, `log` takes the output of its processes."""

    def __init__(self, mark: str, log: Path) -> None:
        self._mark = mark
        self._log = log

    @property
    def pid(self) -> int:
        """Its process 1, by the id that it has outside. Raises SwarmError while it is off."""
        pid = self._find()
        if pid is None:
            raise SwarmError(f"the machine {self._mark} is off")
        return pid

    @property
    def on(self) -> bool:
        """Whether its process 1 is there."""
        return self._find() is not None

    def start(self, hostname: str, *, bind: tuple[str, str] = ("", ""), tree: str = "") -> None:
        """Make the namespaces and process 1. `bind` is what to mount, and where; `tree` another Debian release."""
        if self.on:
            raise SwarmError(f"the machine {self._mark} is on already")
        unshare = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        boot = ["sh", "-euc", _BOOT, "sh", hostname, *bind, tree]
        process = self._popen([*unshare, "--propagation", "slave", *boot])
        wait_for(lambda: process.poll() is not None or self.on, _START_SECONDS)
        if not self.on:
            raise SwarmError(f"the machine {self._mark} did not start: {self._log.read_text(errors='replace')[-1000:]}")

    def kill(self) -> None:
        """SIGKILL process 1, and with it all others; nothing if it is off."""
        kill(self._mark)

    def enter(self, *namespaces: str) -> list[str]:
        """The words to put before a command that shall run in these namespaces of it, all if none is named."""
        return [
            "nsenter",
            f"--target={self.pid}",
            *(f"--{name}" for name in namespaces or ("net", "mount", "uts", "pid")),
        ]

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in the machine; it ends with it."""
        return self._popen([*self.enter(), *command])

    def run(self, command: Sequence[str], *namespaces: str, stdin: str = "") -> str:
        """Run a command in these namespaces; what it printed. Raises SwarmError with its errors if it fails."""
        words = [*self.enter(*namespaces), *command]
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SwarmError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def named(self, program: str) -> set[int]:
        """The machine's processes of that program."""
        found = set()
        for pid in processes(self._mark):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == program:
                    found.add(pid)
        return found

    def _find(self) -> int | None:
        for pid in self.named(_INIT):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
                if ids[1:] == ["1"]:
                    return pid
        return None

    def _popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # None of our own variables: a proxy, for one, would keep an engine from the registry. In a session of its own,
        # so that Ctrl-C at the terminal does not reach it.
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", MARK: self._mark},
                cwd="/",
                start_new_session=True,
            )
        with _LOCK:
            _CHILDREN[:] = [each for each in _CHILDREN if each.poll() is None] + [child]
        return child
