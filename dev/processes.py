"""The processes of a session, and how to end them all."""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_POLL_SECONDS = 0.05


def tied() -> list[str]:
    """The words before a command that is to get SIGTERM when its parent dies, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def members(session: int) -> set[int]:
    """The live processes of the session but this one; a zombie is not alive."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Fields of proc(5) after the name: state, parent, group, session.
            state, _, _, owner = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if int(owner) == session and state not in "ZX":
                found.add(int(entry.parent.name))
    return found - {os.getpid()}


def end_session(session: int, patience_seconds: float) -> None:
    """Interrupt the session as Ctrl-C does, and kill what is left after `patience_seconds`, or at another Ctrl-C.

    :data:`SIGNALS` must be blocked.
    """
    if not members(session):
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGINT)
    if session == os.getsid(0):
        signal.sigwait({signal.SIGINT})  # our own
    print("run: ending all that runs", file=sys.stderr, flush=True)
    end = time.monotonic() + patience_seconds
    while members(session) and time.monotonic() < end:
        again = signal.sigtimedwait(SIGNALS, _POLL_SECONDS)
        if again is not None and again.si_signo == signal.SIGINT:
            break
    while left := members(session):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
