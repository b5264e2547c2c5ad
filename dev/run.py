"""Run a command with a Docker Engine: `python3 -m dev.run -- COMMAND …`; DOCKER_HOST is set for it.

The engine is the one that $DOCKER_HOST names; else the machine's own, if it answers; else the checkout's private one,
which is started for this and stopped afterwards. An engine that was there is used as it is. The exit code is the
command's. `python3 -m dev.run --stop` stops a private engine that nobody uses.

A run leaves nothing behind, even if one of its processes is killed. A keeper, in a session of its own, starts the
engine and the command, ends all that the command left, and stops the engine. It does the same when it gets a signal, or
when the process that was called dies. That process only passes signals on, and clears up if the keeper is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

from dev.docker_command import answers
from dev.engine import EngineError, MissingEngine
from dev.processes import SIGNALS, end_session, tied
from dev.shared import shared_engine, stop_unused

PATIENCE_SECONDS = 60.0
"""The time that a command has to clear up after a signal."""
_MACHINE_ENGINE = "unix:///var/run/docker.sock"
_KEEPER = [sys.executable, "-m", "dev.run", "--keep"]


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
    """Run the command until it ends or a signal comes, and end all it started; the exit code is that of a shell."""
    awaited = {*SIGNALS, signal.SIGCHLD}
    # Blocked from here on, but not in the command: no signal may come between its start and the wait for its end, nor
    # disturb the clearing up.
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        child = subprocess.Popen(
            [*tied(), *command],
            env={**os.environ, "DOCKER_HOST": docker_host},
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, awaited),  # noqa: PLW1509 - no threads here
        )
    except OSError as error:
        print(f"run: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while child.poll() is None:
        info = signal.sigwaitinfo(awaited)
        if info.si_signo != signal.SIGCHLD:
            print(f"run: {signal.Signals(info.si_signo).name}", file=sys.stderr, flush=True)
            break
    end_session(os.getsid(0), PATIENCE_SECONDS)
    return _as_in_a_shell(child.wait())


def keep(command: Sequence[str]) -> int:
    """The keeper's work."""
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


def start_keeper(command: Sequence[str]) -> int:
    """Have a keeper run the command; its exit code."""
    keeper = subprocess.Popen([*tied(), *_KEEPER, *command], start_new_session=True)
    for number in SIGNALS:
        signal.signal(number, lambda received, _frame: keeper.send_signal(received))
    code = keeper.wait()
    if code < 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        end_session(keeper.pid, PATIENCE_SECONDS)
        stop_unused()
    return _as_in_a_shell(code)


def _as_in_a_shell(code: int) -> int:
    """128 + n for signal n."""
    return code if code >= 0 else 128 - code


def main(arguments: Sequence[str]) -> int:
    """Run the command after `--`."""
    if list(arguments) == ["--stop"]:
        if stop_unused():
            return 0
        print("run: the private engine is in use by another command; end that first", file=sys.stderr)
        return 1
    if arguments[:1] == ["--keep"]:
        return keep(arguments[1:])
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0].startswith("-"):
        print("usage: python3 -m dev.run -- COMMAND [ARGUMENT …] | --stop", file=sys.stderr)
        return 2
    return start_keeper(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
