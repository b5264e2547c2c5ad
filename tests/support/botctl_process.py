"""``botctl`` as its users run it: a process, on a terminal or on pipes."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.waiting import wait_until

# A terminal sends Ctrl-C only to the processes that it controls.
_ON_ITS_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def command(*arguments: str) -> list[str]:
    """The program with its arguments."""
    return [sys.executable, "-m", "botctl", *arguments]


def environment(target: str, **further: str) -> dict[str, str]:
    """The environment variables of the program."""
    unwanted = ("BOTCTL_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "BOTCTL_TARGET": target, "TERM": "xterm-256color", **further}


def botctl(target: str, *arguments: str, **further: str) -> subprocess.CompletedProcess[str]:
    """Run on pipes, and wait for the end."""
    return subprocess.run(
        command(*arguments),
        env=environment(target, **further),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def piped(target: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run on pipes in the background; it is killed at the end."""
    process = subprocess.Popen(
        command(*arguments), env=environment(target), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Terminal:
    """A run on its own terminal; the output is collected."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.shown = b""
        self._descriptor = descriptor
        self._reader = threading.Thread(target=self._read, name="terminal")
        self._reader.start()

    @property
    def text(self) -> str:
        """The output so far, without escape sequences."""
        return _ESCAPES.sub(b"", self.shown).decode()

    def wait_for(self, pattern: str, since: int = 0) -> None:
        """Wait until the output matches; ``since``: ignore this many characters at its start."""
        wait_until(lambda: re.search(pattern, self.text[since:]), f"{pattern!r} in {self.text[-500:]!r}")

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C on the terminal."""
        os.write(self._descriptor, b"\x03")

    def wait(self, timeout_seconds: float = 60.0) -> int:
        """Wait for the end and for all output; the exit status."""
        status = self.process.wait(timeout_seconds)
        self._reader.join(timeout_seconds)
        return status

    def close(self) -> None:
        """Kill it if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        os.close(self._descriptor)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 65_536)
            except OSError:
                # The other end is closed.
                return
            if not data:
                return
            self.shown += data


@contextmanager
def on_terminal(target: str, *arguments: str, columns: int = 100, **further: str) -> Iterator[Terminal]:
    """A run on a terminal."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams: Mapping[str, Any] = {"stdin": its, "stdout": its, "stderr": its}
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_ITS_TERMINAL, *command(*arguments)],
        env=environment(target, **further),
        start_new_session=True,
        **streams,
    )
    os.close(its)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        terminal.close()
