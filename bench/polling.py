"""What it costs to follow a swarm, whose managers announce no change of a task, so that their lists are polled.

On a scripted manager (:mod:`bench.scripted_manager`) in another process. The process that is measured does nothing else
(:mod:`bench.poller`): it polls with the backend's source alone or, in the last row, keeps a whole live view. The engine
of the run has no part in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench.figures import ms
from bench.processes import CHECKOUT, ProcessError
from bench.report import Part
from bench.run import Run

BOTS = 500
# Ended tasks of each bot, of which a swarm keeps five; changes of tasks each second; with the live view or without.
_CASES = ((0, 0, False), (0, 1, False), (0, 20, False), (5, 0, False), (5, 1, False), (0, 1, True))


def measure(run: Run) -> Part:
    """Measure each case once."""
    part = Part("polling")
    bots, seconds = run.pick(BOTS, BOTS, 5), run.pick(30, 10, 1)
    cases = _CASES[:: run.pick(1, 1, 5)]
    print(f"polling, {bots} bots: {len(cases)} cases of {1.5 * seconds:.0f} s", flush=True)
    rows = []
    for ended, changes, view in cases:
        figures = _figures(run, (bots, ended, changes), seconds, view=view)
        share = 100 * figures["cpu_seconds"] / figures["seconds"]
        name = f"{changes or 'no'} changes/s"
        name += f", {ended} ended tasks a bot" if ended else ""
        name += ", live view" if view else ""
        part.samples[name] = figures
        rows.append(
            [
                name,
                f"{share:.2f} %",
                f"{figures['polls'] / figures['seconds']:.1f}",
                f"{figures['requests'] / figures['seconds']:.1f}",
                ms(figures["longest_step_seconds"]),
            ]
        )
        if not view:
            part.at_most(f"polling of {bots} bots, {name}: share of a core", share, 5.0, " %")
    head = ["", "of a core", "polls/s", "requests/s", "longest step (ms)"]
    part.table(f"To follow a swarm with {bots} bots ({seconds} s each)", head, rows)
    return part


def _figures(run: Run, manager: tuple[int, int, int], seconds: float, *, view: bool) -> dict[str, Any]:
    with run.program("manager", "bench.scripted_manager", "{socket}", *map(str, manager)) as program:
        command = [sys.executable, "-m", "bench.poller", program.target, str(seconds), *(["view"] if view else [])]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError(f"the poller failed: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
