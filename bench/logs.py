"""A container's whole log of short lines, read again and again.

The log has been written before. Each round reads it whole through each client, in an order drawn anew: the engine's own
bytes by raw HTTP, in which only newlines are counted; the docker SDK's ``logs(stream=True)``; and ``StreamLogs`` by a
bare stub, with one entry a message and in batches.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from statistics import median

from bench.clients import BARE, RAW, SDK, Setting
from bench.engine_http import RawEngine, container_name
from bench.figures import ratio
from bench.processes import ProcessError, Program
from bench.report import Part
from bench.run import Run
from bench.scripted_engine import LAST_LINE, LOG_LINES
from dev.remains import wait_for

OURS = {"service, one entry a message": "read_log", "service, in batches": "read_log_in_batches"}
_LINE = "a line of a log, of usual size"


def measure(run: Run) -> Part:
    """Have the log written, and read it."""
    part = Part()
    rounds = run.rounds(12, 3, 2)
    with ExitStack() as stack:
        service = stack.enter_context(run.service())
        bot_id, lines = written_log(run, service)
        setting = Setting(run.docker_host, service.target)
        clients = {name: stack.enter_context(run.client(name, setting)) for name in (RAW, SDK, BARE)}
        ways = {RAW: (clients[RAW], "read_log"), SDK: (clients[SDK], "read_log")}
        ways |= {name: (clients[BARE], operation) for name, operation in OURS.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        print(f"logs, {lines:,} lines: {rounds} rounds", flush=True)
        draw = random.Random(8)
        for number in range(rounds + 1):
            for name, (client, operation) in draw.sample(list(ways.items()), len(ways)):
                before = service.cpu_seconds()
                (taken,), entries = client.call("each", operation, [bot_id])
                if entries != lines:
                    raise ProcessError(f"{name} read {entries:,} entries, not {lines:,}")
                if number:
                    seconds[name].append(taken)
                    cpu[name].append(service.cpu_seconds() - before)
    to_raw = {name: ratio(taken, seconds[RAW]) for name, taken in seconds.items()}
    rows = [
        [name, f"{median(s):.2f}", f"{lines / median(s):,.0f}", f"{median(cpu[name]):.2f}", str(to_raw[name])]
        for name, s in seconds.items()
    ]
    head = ["", "s", "lines/s", "CPU of the service (s)", f"to {RAW} [95 %]"]
    part.table(f"A log of {lines:,} lines (medians of {rounds} rounds)", head, rows)
    fastest = list(OURS)[-1]
    part.at_most(f"log of {lines:,} lines: {fastest} / {RAW}", to_raw[fastest], 3)
    return part


def written_log(run: Run, service: Program) -> tuple[str, int]:
    """A bot whose running container has written its log, and how many lines that has."""
    lines = run.pick(100_000, 100_000, LOG_LINES)
    command = ("sh", "-c", f"yes '{_LINE}' | head -n {lines - 1}; echo {LAST_LINE}; exec sleep 86400")
    (bot_id,) = run.make(service, 1, run.request(network="none", command=command), start=True)
    with closing(RawEngine(run.docker_host)) as engine:
        if not wait_for(lambda: LAST_LINE.encode() in b"".join(engine.log(container_name(bot_id), tail="1")), 60):
            raise ProcessError("the log is not written in time")
    return bot_id, lines
