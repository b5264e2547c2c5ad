"""A program on a real terminal, tmux, and what is on its screen."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence

import pytest

from dev.debian import MissingEngine, install


class Screen:
    """What the terminal shows."""

    def __init__(self, tmux: Sequence[str]) -> None:
        self._tmux = tmux

    def lines(self) -> list[str]:
        """The lines of the screen, without trailing blanks and empty lines at the end."""
        shown = subprocess.run([*self._tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout
        return shown.rstrip().splitlines()


@contextlib.contextmanager
def on_screen(command: Sequence[str], environment: Mapping[str, str], columns: int, rows: int) -> Iterator[Screen]:
    """Run a command on a screen of this size. Skips the test where tmux cannot be had, and never in CI."""
    try:
        install(("tmux",))
    except MissingEngine as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    tmux = ["tmux", "-u", "-f", "/dev/null", "-L", f"botctl-{uuid.uuid4().hex[:8]}"]
    size = ["-x", str(columns), "-y", str(rows)]
    env = {**environment, "LC_ALL": "C.UTF-8"}
    subprocess.run([*tmux, "new-session", "-d", *size, shlex.join(command)], env=env, check=True)
    try:
        yield Screen(tmux)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
