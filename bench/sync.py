"""How soon a fresh service knows all containers of a real engine.

From just before its process is made until a watcher, who connects when it serves, is told ``synced``: by then every
container has been inspected, statuses and lists come from memory, and every later change is heard of. The containers
are created and never started. Beside it, raw HTTP reads the same in the cheapest way there is: one list, then one
inspection after another over one connection, without a process to start and with nothing made of the answers.
"""

from __future__ import annotations

import time
from contextlib import closing
from statistics import median

from bench.belongings import Belongings
from bench.candidates import MANAGED, RAW, SERVICE
from bench.chart import Bars
from bench.engine_http import RawEngine
from bench.report import Aim, Part, Table
from bench.synced import AIM_CONTAINERS, AIM_SECONDS, synced_service

CONTAINERS = AIM_CONTAINERS
QUICK_CONTAINERS = 100
_STARTS = 5
_QUICK_STARTS = 2


def measure(belongings: Belongings, docker_host: str, *, rounds: int | None, quick: bool) -> Part:
    """Start the service several times, and read the same through raw HTTP each time."""
    part = Part("sync", __doc__ or "")
    starts = rounds or (_QUICK_STARTS if quick else _STARTS)
    count = QUICK_CONTAINERS if quick else CONTAINERS
    print(f"sync, {count} containers: {starts} starts", flush=True)
    bot_id = belongings.idle_containers(count)[0]
    service, serving, cpu, raw = [], [], [], []
    for number in range(starts):
        raw.append(_raw_seconds(docker_host))
        with synced_service(belongings, docker_host, f"sync-{number}", bot_id) as synced:
            service.append(synced.seconds)
            serving.append(synced.serving_seconds)
            cpu.append(synced.cpu_seconds)
    measured = {
        "until the serving line": serving,
        "until synced": service,
        "CPU of the service": cpu,
        f"{RAW}: list and inspect": raw,
    }
    rows = [[name, f"{median(s):.2f}", f"{min(s):.2f}", f"{max(s):.2f}"] for name, s in measured.items()]
    title = f"From the start of the process, {count:,} containers (s, {starts} starts)"
    part.tables.append(Table(title, ["", "median", "min", "max"], rows))
    part.bars.append(
        Bars(
            f"Knowing {count:,} containers, from the start of the process",
            "s",
            {RAW: median(raw), SERVICE: median(service)},
            base=RAW,
            ours=(SERVICE,),
        )
    )
    if count == AIM_CONTAINERS:
        part.aims.append(
            Aim(
                f"{count:,} containers synced after start, real engine",
                f"{median(service):.2f} s",
                f"at most {AIM_SECONDS:.0f} s",
                met=median(service) <= AIM_SECONDS,
            )
        )
    part.samples = {"seconds": measured}
    return part


def _raw_seconds(docker_host: str) -> float:
    begun = time.perf_counter()
    with closing(RawEngine(docker_host)) as engine:
        for row in engine.list(MANAGED):
            engine.inspect(row["Id"])
    return time.perf_counter() - begun
