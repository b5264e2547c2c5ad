"""Why a process ended, from its exit code and the signal that its container is stopped with."""

from __future__ import annotations

import re
import signal
from contextlib import suppress

from container_manager.model import ExitReason

_SIGNALLED = 128
SIGKILL_CODE = _SIGNALLED + signal.SIGKILL
# The engine's numbers (moby/sys/signal) for the kernel's real-time signals; a C library may keep some for itself.
_RTMIN, _RTMAX = 34, 64
_REALTIME = re.compile(r"RT(?:(MIN)(?:\+(\d{1,2}))?|(MAX)(?:-(\d{1,2}))?)", re.ASCII)


def exit_reason(exit_code: int, stop_signal: object, *, oom_killed: bool) -> ExitReason:
    """The reason for an exit.

    ``stop_signal`` is the container's ``Config.StopSignal``. ``oom_killed``: the kernel has killed a process of the
    container for lack of memory, which need not be the one that ended the run.
    """
    if exit_code == 0:
        return ExitReason.COMPLETED
    if exit_code == SIGKILL_CODE:
        return ExitReason.OOM_KILLED if oom_killed else ExitReason.KILLED
    # SIGTERM ends a process on purpose, whatever signal its image prefers.
    stops = (signal.SIGTERM, signal_number(stop_signal))
    return ExitReason.KILLED if exit_code - _SIGNALLED in stops else ExitReason.ERROR


def signal_number(value: object) -> int | None:
    """The number of a signal in any form that the engine accepts: ``SIGINT``, ``quit``, ``10``, ``SIGRTMIN+3``."""
    text = value if isinstance(value, str) else ""
    if text.isascii() and text.isdigit():
        return int(text)
    name = text.upper().removeprefix("SIG")
    if realtime := _REALTIME.fullmatch(name):
        return _RTMIN + int(realtime[2] or 0) if realtime[1] else _RTMAX - int(realtime[4] or 0)
    with suppress(KeyError):
        return signal.Signals[f"SIG{name}"]
    return None
