"""Run a command with a Docker Engine: `python3 -m dev.run -- COMMAND …`; DOCKER_HOST is set for it.

The engine is the one that $DOCKER_HOST names; else the machine's own, if it answers; else the checkout's private one,
which is started for this and stopped afterwards. An engine that was there is used as it is. The exit code is the
command's. `python3 -m dev.run --stop` stops a private engine that nobody uses.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from dev.engine import EngineError, MissingEngine
from dev.ping import answers
from dev.shared import shared_engine, stop_unused

_MACHINE_ENGINE = "unix:///var/run/docker.sock"
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_FROM_KERNEL = 0x80  # SI_KERNEL of sigaction(2): typed at the terminal, so the command has had it too


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Find or start an engine; yield its address. Raises MissingEngine or EngineError with one clear sentence."""
    given = os.environ.get("DOCKER_HOST")
    if given:
        if not answers(given):
            raise MissingEngine(f"no Docker Engine answers at DOCKER_HOST={given}; unset it, or start that engine")
        yield given
    elif answers(_MACHINE_ENGINE):
        yield _MACHINE_ENGINE
    else:
        with contextlib.ExitStack() as stack:
            try:
                address = stack.enter_context(shared_engine())
            except MissingEngine as error:
                raise MissingEngine(
                    f"no Docker Engine answers at {_MACHINE_ENGINE}, and {error}. "
                    "Start Docker, set DOCKER_HOST, or run this as root on Debian or Ubuntu, where it brings its own."
                ) from error
            yield address


def run(command: Sequence[str], docker_host: str) -> int:
    """Run the command, hand on the signals that we get, and return its exit code (128 + n for signal n)."""
    try:
        child = subprocess.Popen(command, env={**os.environ, "DOCKER_HOST": docker_host})
    except OSError as error:
        print(f"run: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    # Blocked from here on: we leave only when the command has ended, and then stop the engine undisturbed.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    while child.poll() is None:
        # The time-out is for a command that ended before the line above.
        info = signal.sigtimedwait({*_FORWARDED, signal.SIGCHLD}, 0.5)
        if info is None or info.si_signo == signal.SIGCHLD or info.si_code == _FROM_KERNEL:
            continue
        # The service ignores SIGHUP.
        child.send_signal(signal.SIGTERM if info.si_signo == signal.SIGHUP else info.si_signo)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def main(arguments: Sequence[str]) -> int:
    """Run the command after `--`."""
    if list(arguments) == ["--stop"]:
        if stop_unused():
            return 0
        print("run: the private engine is in use by another command; end that first", file=sys.stderr)
        return 1
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0].startswith("-"):
        print("usage: python3 -m dev.run -- COMMAND [ARGUMENT …] | --stop", file=sys.stderr)
        return 2
    # Until the command runs, a signal unwinds as Ctrl-C does, so that a half-started engine is stopped.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    try:
        with engine() as docker_host:
            return run(command, docker_host)
    except (MissingEngine, EngineError, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
