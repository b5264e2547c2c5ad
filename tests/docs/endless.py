"""Runs what has no end of its own: ``endless.py until|beside TEXT COMMAND …``.

``until``: once TEXT is in its output it gets Ctrl-C, and has to end by that. ``beside``: once TEXT is there it is left
running, with its process id appended to the file that ``DOCS_PROCESSES`` names.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 60.0
_ENDED_BY_CTRL_C = (0, 130, -signal.SIGINT)


def main(mode: str, text: str, *command: str) -> int:
    """The exit status: 0, or that of a command which ended too early."""
    # A background job of a shell ignores Ctrl-C, and its children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.NamedTemporaryFile(prefix="endless-") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        ends = time.monotonic() + SECONDS
        while text not in Path(output.name).read_text(encoding="utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > ends:
                process.kill()
                sys.stdout.write(Path(output.name).read_text(encoding="utf-8", errors="replace"))
                sys.stdout.write(f"\n{command[0]} did not say {text!r}\n")
                return process.wait() or 1
            time.sleep(0.02)
        if mode == "beside":
            with Path(os.environ["DOCS_PROCESSES"]).open("a", encoding="ascii") as processes:
                processes.write(f"{process.pid}\n")
            return 0
        process.send_signal(signal.SIGINT)
        status = process.wait(SECONDS)
        sys.stdout.write(Path(output.name).read_text(encoding="utf-8", errors="replace"))
    return 0 if status in _ENDED_BY_CTRL_C else status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
