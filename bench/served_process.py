"""A program that serves on a unix socket: started as a process of its own, with its log in a file."""

from __future__ import annotations

import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import process_figures
from bench.process_figures import Memory

_CHECKOUT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60
_STOP_SECONDS = 40


class StartError(Exception):
    """A program did not come to serve; the message holds its log."""


class ServedProcess:
    """A running program; a context manager. It has said that it serves when the constructor returns."""

    def __init__(self, socket: Path, command: Sequence[str], log: Path) -> None:
        self.socket = socket
        self.target = f"unix://{socket}"
        self._log_path = log
        self.begun = time.monotonic()
        """``time.monotonic()`` just before the process was made."""
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=_CHECKOUT,
                # Ctrl-C is for this process, which then stops the other in its own order.
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

    @property
    def ended(self) -> bool:
        """Whether the program runs no more."""
        return self._process.poll() is not None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it to the program."""
        self._process.send_signal(number)

    def memory(self) -> Memory:
        """What it holds now."""
        return process_figures.memory(self._process.pid)

    def cpu_seconds(self) -> float:
        """CPU time that it has used so far."""
        return process_figures.cpu_seconds(self._process.pid)

    def _await_serving(self) -> None:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START_SECONDS)
        line = self._process.stdout.readline().decode() if readable else ""
        if "serving" not in line:
            log = self._log_path.read_text(errors="replace").strip()
            raise StartError(f"{self.socket.name} did not come to be served: {line.strip()} {log}")
