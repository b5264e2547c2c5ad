"""Run commands beside one another, in lanes: the jobs of a lane one after another, the lanes at the same time.

A live job writes where we do. The output of any other is kept, and printed when all have ended. A job that fails
stops nobody. A signal ends every job as Ctrl-C would, and whoever does not end in time is killed with its children.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

NOT_RUN = 130
"""The exit code of a job that a signal kept from beginning."""
IDLE = 19
"""The lowest priority."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """A command, and how it is run."""

    name: str
    command: Sequence[str]
    live: bool = False
    """Its output is not kept; for one job at most."""
    niceness: int = 0
    """From 1 on it yields processor time to the others; at 19 it takes only what they leave of that and of the disk."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it has besides ours."""


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    name: str
    code: int
    """As in a shell: 128 + n for signal n."""
    seconds: float


class _Lane:
    """Jobs one after another, of which at most one runs."""

    def __init__(self, jobs: Sequence[Job], outputs: Path) -> None:
        self.ended: list[Ended] = []
        self._waiting = list(jobs)
        self._outputs = outputs
        self._process: subprocess.Popen[bytes] | None = None
        self._job = Job("", ())
        self._begun = 0.0

    def step(self) -> bool:
        """Take note of a job's end and begin the next; False when there is none."""
        if self._process is not None:
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return True
            self._reap(self._process)
        while self._waiting and self._process is None:
            self._begin(self._waiting.pop(0))
        return self._process is not None

    def interrupt(self) -> None:
        """Ask the running job to end, as Ctrl-C does, and begin no other."""
        self.ended += [Ended(job.name, NOT_RUN, 0.0) for job in self._waiting]
        self._waiting.clear()
        if self._process is not None:
            _signal_group(self._process, signal.SIGINT)

    def kill(self) -> None:
        """End the running job and its children at once."""
        self.interrupt()
        if self._process is not None:
            self._reap(self._process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """End what the job has left running, while its process, even dead, still keeps the group's id from others."""
        _signal_group(process, signal.SIGKILL)
        code = process.wait()
        self._process = None
        self._end(code if code >= 0 else 128 - code)

    def _begin(self, job: Job) -> None:
        self._job, self._begun = job, time.monotonic()
        with contextlib.ExitStack() as stack:
            sink: BinaryIO | None = None
            if not job.live:
                sink = stack.enter_context((self._outputs / job.name).open("wb"))
            try:
                self._process = subprocess.Popen(
                    [*_tied(), *_priority(job.niceness), *job.command],
                    env={**os.environ, **job.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT if sink else None,
                    start_new_session=True,
                )
            except OSError as error:
                print(f"{job.name}: {job.command[0]}: {error.strerror}", file=sys.stderr, flush=True)
                self._end(127)

    def _end(self, code: int) -> None:
        self.ended.append(Ended(self._job.name, code, time.monotonic() - self._begun))
        # Told at once, for whoever is killed before the table is printed; apart from a live job's unfinished line.
        print(f"\n{_line(self.ended[-1])}", file=sys.stderr, flush=True)


def run(lanes: Sequence[Sequence[Job]], patience_seconds: float = 60) -> list[Ended]:
    """Run all jobs, print what was kept of their output and a table, and return how each ended.

    `patience_seconds` is what jobs are given to end after a signal; we ourselves end with no process left in any job's
    group then. A job that makes groups of its own, as one that runs jobs with this does, has to end those itself. If it
    is killed before it does, the kernel kills the process of each of its jobs (by `setpriv`, where there is that), but
    not what these have started.
    """
    with tempfile.TemporaryDirectory(prefix="beside-") as directory, _signals() as received:
        running = [_Lane(jobs, Path(directory)) for jobs in lanes]
        try:
            _follow(running, received, patience_seconds)
        finally:
            for lane in running:
                lane.kill()
        ended = [each for lane in running for each in lane.ended]
        _print_outputs([job for jobs in lanes for job in jobs], ended, Path(directory))
    return ended


def _follow(lanes: Sequence[_Lane], received: list[int], patience_seconds: float) -> None:
    deadline = float("inf")
    while any([lane.step() for lane in lanes]):  # noqa: C419 - every lane takes its step
        if received and deadline == float("inf"):
            deadline = time.monotonic() + patience_seconds
            print(f"{signal.Signals(received[0]).name}: ending all jobs", file=sys.stderr, flush=True)
            for lane in lanes:
                lane.interrupt()
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def combined(ended: Sequence[Ended]) -> int:
    """The exit code of all: that of the first which failed."""
    return next((each.code for each in ended if each.code), 0)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that have come; having handlers of ours, they are at their defaults in what we start."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {
        number: signal.signal(number, note) for number in _SIGNALS
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _tied() -> list[str]:
    """What has a command killed when we die, be it by SIGKILL."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _priority(niceness: int) -> list[str]:
    nice = ["nice", "-n", str(niceness)] if niceness else []
    return ["ionice", "-c", "3", *nice] if niceness == IDLE and shutil.which("ionice") else nice


def _print_outputs(jobs: Sequence[Job], ended: Sequence[Ended], outputs: Path) -> None:
    """The kept outputs, those of failed jobs last, and a line for each job."""
    codes = {each.name: each.code for each in ended}
    sys.stdout.flush()
    for job in sorted(jobs, key=lambda job: codes[job.name] != 0):
        kept = outputs / job.name
        if kept.exists():
            _write(f"\n======== {job.name}\n".encode() + kept.read_bytes())
    lines = [f"  {_line(each)}" for each in ended]
    _write("\n".join(["", "======== jobs", *lines, ""]).encode())


def _line(ended: Ended) -> str:
    verdict = f"exit code {ended.code}" if ended.code else "passed"
    return f"{ended.name:<24} {verdict} after {ended.seconds:.0f} s"


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
