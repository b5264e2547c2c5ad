"""The service as users run it: a process of its own, with its log in a file."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bench.belongings import Belongings

_START_SECONDS = 60
_STOP_SECONDS = 40


class Memory(NamedTuple):
    """Of one process, in bytes (proc(5), smaps_rollup)."""

    rss: int
    """All pages that it has in memory, shared libraries included."""
    pss: int
    """The same, each shared page divided by the number of its users."""


class ServiceStartError(Exception):
    """The service did not come to serve; the message holds its log."""


class ServiceProcess:
    """A running ContainerManager; a context manager. It serves when the constructor returns."""

    def __init__(self, belongings: Belongings, docker_host: str, name: str) -> None:
        self.socket = belongings.scratch / f"{name}.d" / "cm.sock"
        self.target = f"unix://{self.socket}"
        self._log_path = belongings.scratch / f"{name}.log"
        self.begun = time.monotonic()
        """``time.monotonic()`` just before the process was made."""
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "container_manager", "serve"),
                    *("--listen", self.target),
                    *("--docker-host", docker_host),
                    *("--secrets-root", str(belongings.secrets_root)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for this process, which then stops the service in its own order.
                start_new_session=True,
            )
        try:
            self._await_serving()
        except BaseException:
            self.stop()
            raise
        self.serving = time.monotonic()
        """``time.monotonic()`` when its "serving" line was read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and wait until what it has under way has ended."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def memory(self) -> Memory:
        """What it holds now."""
        fields = {}
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, _, value = line.partition(":")
            fields[key] = int(value.split()[0]) * 1024
        return Memory(fields["Rss"], fields["Pss"])

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far, user and system."""
        # Counted behind the command's name, which may hold spaces (proc(5), stat: utime and stime are 14 and 15).
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _await_serving(self) -> None:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline().decode() if readable else ""
        if "serving" not in line:
            log = self._log_path.read_text(errors="replace").strip()
            raise ServiceStartError(f"the service did not come to serve: {line.strip()} {log}")
