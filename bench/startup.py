"""The CPU time of a short command, beside what its libraries alone take.

Each round runs each command in a process of its own, in an order drawn anew. User and system time count, until the
process has ended (getrusage(2), RUSAGE_CHILDREN), so that what the machine does beside it matters little.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from statistics import median

from bench.report import Part
from bench.run import Run

_LISTED = 20
_BOTCTL = "from botctl.entry import main; main()"
_LIBRARIES = "import click, grpc; from botmaker.container.v1 import container_manager_pb2"


def measure(run: Run) -> Part:
    """Measure lists of a few bots."""
    part = Part("startup")
    rounds = run.rounds(40, 10, 1)
    print(f"startup: {rounds} rounds", flush=True)
    with run.service() as service:
        run.idle_bots(service, run.pick(_LISTED, _LISTED, 1))
        listing = [sys.executable, "-c", _BOTCTL, "list", "--target", service.target]
        commands = {"botctl list -o json": [*listing, "-o", "json"]}
        if not run.is_smoke:
            # In a pipe. On a terminal, rich adds a fifth.
            commands |= {"botctl list": listing, "click, gRPC and messages": [sys.executable, "-c", _LIBRARIES]}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        draw = random.Random(12)
        for _ in range(rounds):
            for name in draw.sample(list(commands), len(commands)):
                seconds[name].append(_cpu_seconds(commands[name]))
    rows = [[name, f"{median(s):.3f}", f"{min(s):.3f}", f"{max(s):.3f}"] for name, s in seconds.items()]
    part.table(f"CPU time of a command (s, {rounds} rounds)", ["", "median", "least", "most"], rows)
    part.samples = seconds
    for name in list(commands)[:2]:
        part.at_most(f"CPU of {name}", median(seconds[name]), 0.15, " s")
    return part


def _cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
